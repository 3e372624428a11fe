package endpoint

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
)

const (
	shapedID   = "evt_0123456789abcdef"
	shapedType = "payment.succeeded"
)

func shapedEndpoint(t testing.TB, f Format) *Endpoint {
	t.Helper()
	e := &Endpoint{Space: event.SpaceOf(1, true), URL: "https://example.com"}
	if err := e.SetFormat(f, "/accounts/acct_1/live", 1<<40); err != nil {
		t.Fatal(err)
	}
	return e
}

func TestPayload_formats(t *testing.T) {
	const plain = `{"object":{"id":"pay_1","object":"payment","amount":2999}}`
	attrs := map[string]string{"Ce-Specversion": "1.0", "Ce-Id": shapedID, "Ce-Source": "/accounts/acct_1/live", "Ce-Type": shapedType, "Ce-Time": "2023-11-09T21:20:00Z"}
	with := func(subject string) map[string]string {
		m := maps.Clone(attrs)
		m["Ce-Subject"] = subject
		return m
	}
	const envelope = `{"specversion":"1.0","id":"` + shapedID + `","source":"/accounts/acct_1/live","type":"payment.succeeded","time":"2023-11-09T21:20:00Z",`
	for _, tt := range []struct {
		name              string
		format            Format
		data, body, media string
		attributes        map[string]string
	}{
		{"standard", Standard, plain, `{"id":"` + shapedID + `","type":"payment.succeeded","created":1699564800,"data":` + plain + `}`, "", nil},
		{"structured", Structured, plain, envelope + `"subject":"pay_1","datacontenttype":"application/json","data":` + plain + `}`, "application/cloudevents+json", nil},
		{"structured, no id", Structured, `{"object":{}}`, envelope + `"datacontenttype":"application/json","data":{"object":{}}}`, "application/cloudevents+json", nil},
		{"binary", Binary, plain, plain, "", with("pay_1")},
		{"binary, an id to encode", Binary, `{"object":{"id":"a \"%é€😀"}}`, `{"object":{"id":"a \"%é€😀"}}`, "", with("a%20%22%25%C3%A9%E2%82%AC%F0%9F%98%80")},
		{"binary, a number for an id", Binary, `{"object":{"id":7}}`, `{"object":{"id":7}}`, "", attrs},
		{"binary, a line end in an id", Binary, `{"object":{"id":"a\r\nX-Evil: 1"}}`, `{"object":{"id":"a\r\nX-Evil: 1"}}`, "", attrs},
		{"binary, half a character", Binary, `{"object":{"id":"a\ud800"}}`, `{"object":{"id":"a\ud800"}}`, "", attrs},
		{"binary, an empty id", Binary, `{"object":{"id":""}}`, `{"object":{"id":""}}`, "", attrs},
		{"binary, a long id", Binary, `{"object":{"id":"` + strings.Repeat("a", 257) + `"}}`, `{"object":{"id":"` + strings.Repeat("a", 257) + `"}}`, "", attrs},
		{"thin", Thin, plain, `{"id":"` + shapedID + `","type":"payment.succeeded","created":1699564800,"mode":"live","object":{"id":"pay_1","type":"payment"},"event_url":"/v1/events/` + shapedID + `"}`, "", nil},
		{"thin, of what names itself oddly", Thin, `{"object":{"ID":"x","id":{"a":1}}}`, `{"id":"` + shapedID + `","type":"payment.succeeded","created":1699564800,"mode":"live","object":{"id":null,"type":null},"event_url":"/v1/events/` + shapedID + `"}`, "", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := shapedEndpoint(t, tt.format).Payload(1, shapedID, shapedType, event.NewBody(shapedID, shapedType, 1699564800, []byte(tt.data)))
			if string(p.Body) != tt.body || p.ContentType != tt.media {
				t.Errorf("got %q\n%s\nwant %q\n%s", p.ContentType, p.Body, tt.media, tt.body)
			}
			got := map[string]string{}
			for k, v := range p.Attributes {
				got[k] = strings.Join(v, "|")
			}
			if !maps.Equal(got, tt.attributes) {
				t.Errorf("attributes %v, want %v", got, tt.attributes)
			}
		})
	}
}

// What an event looks like is decided when it is accepted, whatever changes later.
func TestSetFormat_keepsEarlierEvents(t *testing.T) {
	e := &Endpoint{No: 1, URL: "https://example.com"}
	set := func(f Format, since event.Key) {
		t.Helper()
		used := *e
		if err := e.SetFormat(f, "s", since); err != nil {
			t.Fatal(err)
		}
		if used.Format() == f {
			t.Errorf("the endpoint that is in use changed to %s", f)
		}
	}
	set(Structured, 100)
	set(Thin, 200)
	set(Binary, 200) // before anybody saw the one before
	for k, want := range map[event.Key]Format{1: Standard, 99: Standard, 100: Structured, 199: Structured, 200: Binary, 1 << 62: Binary} {
		if got := e.shapeOf(k).Format; got != want {
			t.Errorf("event %d is %s, want %s", k, got, want)
		}
	}
	before := len(e.Settings.Shapes)
	if err := e.SetFormat(Binary, "s", 300); err != nil || len(e.Settings.Shapes) != before {
		t.Errorf("no change made a shape: %v %v", err, e.Settings.Shapes)
	}
	var err error
	changes := 0
	for ; err == nil && changes <= MaxShapes; changes++ {
		err = e.SetFormat([]Format{Thin, Standard}[changes%2], "s", event.Key(300+changes))
	}
	if fault.CodeOf(err) != fault.Invalid || len(e.Settings.Shapes) != MaxShapes {
		t.Errorf("after %d changes: %v, %d shapes", changes, err, len(e.Settings.Shapes))
	}
}

func TestCheck_payloadFormat(t *testing.T) {
	rules := Rules{Brokers: func(string) bool { return true }}
	for _, tt := range []struct {
		url    string
		format Format
		ok     bool
	}{
		{"https://example.com", Standard, true}, {"https://example.com", Structured, true}, {"https://example.com", Binary, true}, {"https://example.com", Thin, true},
		{"https://example.com", "xml", false}, {"broker://a/b", Structured, true}, {"broker://a/b", Binary, false},
	} {
		e := shapedEndpoint(t, tt.format)
		e.URL, e.Events = tt.url, []string{"*"}
		if err := e.Check(rules); (err == nil) != tt.ok {
			t.Errorf("%s to %s: %v", tt.format, tt.url, err)
		}
	}
}

// Whatever the data: bodies are JSON, stable under JSON.stringify(JSON.parse(body)),
// and headers are such as can be sent and decoded.
func FuzzPayload(f *testing.F) {
	for _, s := range []string{`{"object":{"id":"pay_1","object":"payment"}}`, `{"object":{"id":"é \"%\u2028"}}`, `{"object":{"id":"\ud800","object":7}}`, `{"a":1,"object":{"id":null}}`, `{"object":{"id":"a\r\nb"}}`} {
		f.Add([]byte(s), int64(1699564800))
	}
	f.Fuzz(func(t *testing.T, raw []byte, created int64) {
		in, err := event.ParseInput([]byte(`{"type":"a.b","data":` + string(raw) + `}`))
		if err != nil || created <= 0 || created > time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC).Unix() {
			return
		}
		body := event.NewBody(shapedID, shapedType, created, in.Data)
		if c, data, ok := event.SplitBody(body); !ok || c != created || !bytes.Equal(data, in.Data) {
			t.Fatalf("split %d %s %v", c, data, ok)
		}
		for _, format := range []Format{Standard, Structured, Binary, Thin} {
			p := shapedEndpoint(t, format).Payload(1, shapedID, shapedType, body)
			if !json.Valid(p.Body) {
				t.Errorf("%s: %s", format, p.Body)
			}
			if again, err := event.AppendStable(nil, p.Body, ""); err != nil || !bytes.Equal(again, p.Body) {
				t.Errorf("%s is not stable: %v\n%s\n%s", format, err, p.Body, again)
			}
			for name, v := range p.Attributes {
				if _, err := url.PathUnescape(v[0]); err != nil || !HeaderValue(v[0]) {
					t.Errorf("%s: %q: %v", name, v[0], err)
				}
			}
		}
	})
}
