package service

import (
	"fmt"
	"strings"

	"github.com/posthaste-hq/posthaste/internal/endpoint"
)

// maxDetail bounds each value in the audit log, in bytes.
const maxDetail = 300

// difference gathers for the audit log which values an edit changed. None may be a secret.
type difference []string

// of notes a value before and after.
func (d *difference) of(name string, old, is any) {
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

// differences returns what an edit changed of an endpoint, without what may be a credential.
func differences(old, e *endpoint.Endpoint) []string {
	var d difference
	endpoint.Differences(old, e, d.of)
	return append(d, moves(old, e)...)
}
