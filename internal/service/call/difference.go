package call

import (
	"fmt"
	"strings"
)

// maxDetail bounds each value in the audit log, in bytes.
const maxDetail = 300

// Difference gathers for the audit log which values an edit changed. None may be a secret.
type Difference []string

// Of notes a value before and after.
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
