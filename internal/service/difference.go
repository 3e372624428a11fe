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

// differences returns what an edit changed of an endpoint, but for what may be a credential:
// the queries of its URLs, passwords, headers, certificates and metadata.
func differences(old, e *endpoint.Endpoint) []string {
	var d difference
	d.of("url", withoutQuery(old.URL), withoutQuery(e.URL))
	d.of("token_url", withoutQuery(old.Auth.TokenURL), withoutQuery(e.Auth.TokenURL))
	d.of("authentication", old.Auth.Type, e.Auth.Type)
	d.of("enabled_events", strings.Join(old.Events, " "), strings.Join(e.Events, " "))
	d.of("status", old.Status, e.Status)
	d.of("description", old.Description, e.Description)
	d.of("ordering", old.Settings.Ordering, e.Settings.Ordering)
	d.of("timeout", old.Settings.Timeout, e.Settings.Timeout)
	d.of("max_concurrency", old.Settings.Concurrency, e.Settings.Concurrency)
	d.of("rate_limit", old.Settings.Rate, e.Settings.Rate)
	d.of("retry_schedule", old.Settings.Schedule, e.Settings.Schedule)
	d.of("payload_format", old.Format(), e.Format())
	d.of("filter", old.Settings.Filter, e.Settings.Filter)
	d.of("transform", old.Transform(), e.Transform())
	d.of("validation", old.Settings.Validation, e.Settings.Validation)
	return append(d, moves(old, e)...)
}
