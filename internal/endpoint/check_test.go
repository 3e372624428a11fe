package endpoint

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
)

func TestEndpoint_Check(t *testing.T) {
	many := func(n int) map[string]string {
		m := map[string]string{}
		for i := range n {
			m[strings.Repeat("k", i%39+1)+string(rune('a'+i/39))] = "v"
		}
		return m
	}
	for _, tt := range []struct {
		name   string
		change func(e *Endpoint)
		param  string // at fault; empty is none
	}{
		{"good", func(*Endpoint) {}, ""},
		{"no URL", func(e *Endpoint) { e.URL = "" }, "url"},
		{"URL at the limit", func(e *Endpoint) { e.URL = "https://a.example/" + strings.Repeat("x", MaxURLLength-18) }, ""},
		{"URL over the limit", func(e *Endpoint) { e.URL = "https://a.example/" + strings.Repeat("x", MaxURLLength-17) }, "url"},
		{"relative", func(e *Endpoint) { e.URL = "/hooks" }, "url"},
		{"no scheme", func(e *Endpoint) { e.URL = "a.example/hooks" }, "url"},
		{"other scheme", func(e *Endpoint) { e.URL = "ftp://a.example" }, "url"},
		{"opaque", func(e *Endpoint) { e.URL = "https:a.example" }, "url"},
		{"no host", func(e *Endpoint) { e.URL = "https:///hooks" }, "url"},
		{"port only", func(e *Endpoint) { e.URL = "https://:443/hooks" }, "url"},
		{"empty port", func(e *Endpoint) { e.URL = "https://a.example:/hooks" }, "url"},
		{"bad port", func(e *Endpoint) { e.URL = "https://a.example:x/hooks" }, "url"},
		{"port", func(e *Endpoint) { e.URL = "https://a.example:8443/hooks?q=1" }, ""},
		{"IPv6", func(e *Endpoint) { e.URL = "https://[2001:db8::1]/hooks" }, ""},
		{"user", func(e *Endpoint) { e.URL = "https://u:p@a.example" }, "url"},
		{"fragment", func(e *Endpoint) { e.URL = "https://a.example/#f" }, "url"},
		{"empty fragment", func(e *Endpoint) { e.URL = "https://a.example/#" }, "url"},
		{"space", func(e *Endpoint) { e.URL = "https://a.example/a b" }, "url"},
		{"line break", func(e *Endpoint) { e.URL = "https://a.example/\r\nX: y" }, "url"},
		{"bad escape", func(e *Endpoint) { e.URL = "https://a.example/%zz" }, "url"},
		{"plain in live mode", func(e *Endpoint) { e.URL = "http://a.example" }, "url"},
		{"plain in test mode", func(e *Endpoint) { e.URL, e.Space = "http://a.example", event.SpaceOf(1, false) }, ""},
		{"no events", func(e *Endpoint) { e.Events = nil }, "enabled_events"},
		{"too many events", func(e *Endpoint) { e.Events = make([]string, MaxEvents+1) }, "enabled_events"},
		{"bad event", func(e *Endpoint) { e.Events = []string{"a.b", "a b"} }, "enabled_events[1]"},
		{"star inside", func(e *Endpoint) { e.Events = []string{"a.*.b"} }, "enabled_events[0]"},
		{"star without a dot", func(e *Endpoint) { e.Events = []string{"a*"} }, "enabled_events[0]"},
		{"patterns", func(e *Endpoint) { e.Events = []string{"*", "a.*", "a.b_c.D1"} }, ""},
		{"description at the limit", func(e *Endpoint) { e.Description = strings.Repeat("é", MaxDescription) }, ""},
		{"description", func(e *Endpoint) { e.Description = strings.Repeat("é", MaxDescription+1) }, "description"},
		{"metadata", func(e *Endpoint) { e.Metadata = many(MaxMetadata) }, ""},
		{"too much metadata", func(e *Endpoint) { e.Metadata = many(MaxMetadata + 1) }, "metadata"},
		{"empty metadata key", func(e *Endpoint) { e.Metadata = map[string]string{"": "v"} }, "metadata"},
		{"long metadata key", func(e *Endpoint) { e.Metadata = map[string]string{strings.Repeat("k", MaxMetadataKey+1): "v"} }, "metadata"},
		{"long metadata value", func(e *Endpoint) { e.Metadata = map[string]string{"k": strings.Repeat("v", MaxMetadataValue+1)} }, "metadata[k]"},
		{"FIFO", func(e *Endpoint) { e.Settings.Ordering = FIFO }, ""},
		{"ordering", func(e *Endpoint) { e.Settings.Ordering = "lifo" }, "ordering"},
		{"short timeout", func(e *Endpoint) { e.Settings.Timeout = MinTimeout - 1 }, "timeout"},
		{"long timeout", func(e *Endpoint) { e.Settings.Timeout = MaxTimeout + 1 }, "timeout"},
		{"timeout", func(e *Endpoint) { e.Settings.Timeout = MaxTimeout }, ""},
		{"negative concurrency", func(e *Endpoint) { e.Settings.Concurrency = -1 }, "max_concurrency"},
		{"concurrency", func(e *Endpoint) { e.Settings.Concurrency = MaxConcurrency + 1 }, "max_concurrency"},
		{"negative rate", func(e *Endpoint) { e.Settings.Rate = -0.5 }, "rate_limit"},
		{"rate", func(e *Endpoint) { e.Settings.Rate = MaxRate + 1 }, "rate_limit"},
		{"no number as a rate", func(e *Endpoint) { e.Settings.Rate = math.NaN() }, "rate_limit"},
		{"endless rate", func(e *Endpoint) { e.Settings.Rate = math.Inf(1) }, "rate_limit"},
		{"no retries", func(e *Endpoint) { e.Settings.Schedule = []time.Duration{} }, ""},
		{"too many retries", func(e *Endpoint) { e.Settings.Schedule = make([]time.Duration, MaxRetries+1) }, "retry_schedule"},
		{"short delay", func(e *Endpoint) { e.Settings.Schedule = []time.Duration{time.Second, time.Second - 1} }, "retry_schedule[1]"},
		{"long delay", func(e *Endpoint) { e.Settings.Schedule = []time.Duration{MaxRetryDelay + 1} }, "retry_schedule[0]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := &Endpoint{Space: space, Config: Config{URL: "https://a.example/hooks", Events: []string{"*"}}}
			tt.change(e)
			err := e.Check(Rules{})
			var f *fault.Error
			switch {
			case tt.param == "" && err != nil:
				t.Errorf("refused: %v", err)
			case tt.param != "" && (!errors.As(err, &f) || f.Code != fault.Invalid || f.Param != tt.param || f.Message == "" || f.Reason == ""):
				t.Errorf("got %v, want fault.Invalid for %s", err, tt.param)
			}
		})
	}
	plain := &Endpoint{Space: space, Config: Config{URL: "http://a.example", Events: []string{"*"}}}
	if err := plain.Check(Rules{AllowPlain: true}); err != nil {
		t.Errorf("the operator allows plain http in live mode: %v", err)
	}
}

func TestEndpoint_Check_repeatsNoLongPattern(t *testing.T) {
	e := &Endpoint{Space: space, Config: Config{URL: "https://a.example", Events: []string{strings.Repeat("é ", 5000)}}}
	if err := e.Check(Rules{}); err == nil || len(err.Error()) > 400 {
		t.Errorf("got %v", err)
	}
}
