package call

import (
	"fmt"
	"strings"
)

// maxDetail bounds each value in the audit log, in bytes.
const maxDetail = 300

// Difference collects the values that an edit changed, for the audit log. None may be a secret.
type Difference []string

// Of adds a value before and after the edit.
func (d *Difference) Of(name string, old, is any) {
	before, after := fmt.Sprint(old), fmt.Sprint(is)
	if before == after {
		return
	}
	*d = append(*d, "old_"+name, shortened(before), "new_"+name, shortened(after))
}

func shortened(text string) string {
	if len(text) > maxDetail {
		text = text[:maxDetail] + "…"
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}
