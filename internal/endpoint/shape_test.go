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
	e := &Endpoint{Space: event.SpaceOf(1, true), Config: Config{URL: "https://example.com"}}
	if err := e.SetShape("payload_format", Shape{Format: f, Source: "/accounts/acct_1/live", Since: 1 << 40}); err != nil {
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
		{"data", Data, `{"a":1,"object":{"id":"pay_1"},"b":2}`, `{"id":"pay_1"}`, "", nil},
		{"raw", Raw, `{"object":{},"raw":{"content_type":"text/csv; charset=utf-8","base64":"aWQsbgoB/w=="}}`, "id,n\n\x01\xff", "text/csv; charset=utf-8", nil},
		{"raw, of an event without raw bytes", Raw, plain, `{"id":"` + shapedID + `","type":"payment.succeeded","created":1699564800,"data":` + plain + `}`, "", nil},
		{"thin, of what names itself oddly", Thin, `{"object":{"ID":"x","id":{"a":1}}}`, `{"id":"` + shapedID + `","type":"payment.succeeded","created":1699564800,"mode":"live","object":{"id":null,"type":null},"event_url":"/v1/events/` + shapedID + `"}`, "", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := shapedEndpoint(t, tt.format).Payload(1, shapedID, shapedType, event.NewBody(shapedID, shapedType, 1699564800, []byte(tt.data)))
			if err != nil {
				t.Fatal(err)
			}
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

// The format of an event is decided when it is accepted, and later changes do not affect it.
func TestSetShape_keepsEarlierEvents(t *testing.T) {
	e := &Endpoint{No: 1, Config: Config{URL: "https://example.com"}}
	set := func(f Format, since event.Key) {
		t.Helper()
		used := *e
		if err := e.SetShape("payload_format", Shape{Format: f, Source: "s", Since: since}); err != nil {
			t.Fatal(err)
		}
		if used.Format() == f {
			t.Errorf("the endpoint that is in use changed to %s", f)
		}
	}
	set(Structured, 100)
	set(Thin, 200)
	set(Binary, 200) // before the previous change took effect
	for k, want := range map[event.Key]Format{1: Standard, 99: Standard, 100: Structured, 199: Structured, 200: Binary, 1 << 62: Binary} {
		if got := e.shapesOf(k)[0].Format; got != want {
			t.Errorf("event %d is %s, want %s", k, got, want)
		}
	}
	before := len(e.Settings.Shapes)
	if err := e.SetShape("payload_format", Shape{Format: Binary, Source: "s", Since: 300}); err != nil || len(e.Settings.Shapes) != before {
		t.Errorf("no change made a shape: %v %v", err, e.Settings.Shapes)
	}
	var err error
	changes := 0
	for ; err == nil && changes <= MaxShapes; changes++ {
		err = e.SetShape("payload_format", Shape{Format: []Format{Thin, Standard}[changes%2], Source: "s", Since: event.Key(300 + changes)})
	}
	if fault.CodeOf(err) != fault.Invalid || len(e.Settings.Shapes) != MaxShapes {
		t.Errorf("after %d changes: %v, %d shapes", changes, err, len(e.Settings.Shapes))
	}
}

// A transformation comes before the format, or is the whole body.
func TestPayload_transformedFormats(t *testing.T) {
	body := event.NewBody(shapedID, shapedType, 1, []byte(`{"object":{"id":"pay_1","n":2}}`))
	for _, tt := range []struct {
		format          Format
		transform, want string // "error" is one
	}{
		{Data, `{"object": {"n": data.object.n}}`, `application/json {"n":2}`},
		{Data, `{"n": data.object.n}`, "error"},
		{Form, `{"object": {"n": data.object.n}}`, `application/x-www-form-urlencoded n=2`},
		{Form, `{"n": data.object.n}`, "error"},
		{Transformed, `{"text": "Paid " + data.object.id}`, `application/json {"text":"Paid pay_1"}`},
		{Transformed, `[type]`, `application/json ["payment.succeeded"]`},
		{Transformed, `"Paid " + data.object.id`, `text/plain; charset=utf-8 Paid pay_1`},
		{Transformed, `data.object.nowhere`, "error"},
	} {
		p, err := transformed(t, Shape{Format: tt.format, Transform: tt.transform}).Payload(1, shapedID, shapedType, body)
		got := p.MediaType() + " " + string(p.Body)
		if err != nil {
			got = "error"
		}
		if got != tt.want || err == nil && !p.Made || err != nil && p.Body != nil {
			t.Errorf("%s %s: %s %v, want %s", tt.format, tt.transform, got, err, tt.want)
		}
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

// For all data, bodies are JSON that is stable under JSON.stringify(JSON.parse(body)), and
// headers can be sent and decoded.
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
		for _, format := range []Format{Standard, Structured, Binary, Thin, Data, Raw} {
			p, err := shapedEndpoint(t, format).Payload(1, shapedID, shapedType, body)
			if err != nil {
				t.Fatal(err)
			}
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

func transformed(t testing.TB, shapes ...Shape) *Endpoint {
	t.Helper()
	e := &Endpoint{Space: event.SpaceOf(1, true), Config: Config{URL: "https://example.com", Events: []string{"*"}}}
	for i, s := range shapes {
		if err := e.SetShape("transform", s); err != nil {
			t.Fatal(err)
		}
		e.No = int64(i + 1)
	}
	return e
}

func TestPayload_transformed(t *testing.T) {
	const data = `{"object":{"id":"pay_1","amount":1e21,"card":{"last4":"4242"},"10":1,"9":2}}`
	body := event.NewBody(shapedID, shapedType, 1699564800, []byte(data))
	const keep = `{"object": {"id": data.object.id, "10": data.object["10"], "9": 0.5, "big": data.object.amount, "e": "\u2028<"}}`
	// As JSON.stringify writes it: integer-like names first, ascending.
	const kept = `{"object":{"9":0.5,"10":1,"big":1e+21,"e":"` + "\u2028" + `<","id":"pay_1"}}`
	for format, want := range map[Format]string{
		Standard:   `{"id":"` + shapedID + `","type":"payment.succeeded","created":1699564800,"data":` + kept + `}`,
		Binary:     kept,
		Structured: `"data":` + kept + `}`,
		Thin:       `"object":{"id":"pay_1","type":null}`,
	} {
		e := transformed(t, Shape{Format: format, Transform: keep})
		if err := e.Check(Rules{}); err != nil {
			t.Error(err)
		}
		p, err := e.Payload(1, shapedID, shapedType, body)
		if err != nil || !strings.Contains(string(p.Body), want) || strings.Contains(string(p.Body), "4242") {
			t.Errorf("%s: %s %v\nwant %s", format, p.Body, err, want)
		}
	}
	if err := transformed(t, Shape{Format: Standard, Transform: "1"}).Check(Rules{}); fault.CodeOf(err) != fault.Invalid {
		t.Errorf("what is no object: %v", err)
	}
}

// An event whose transformation fails is not sent until a later transformation succeeds; that
// one then applies permanently.
func TestPayload_neverLeaksWhatCannotBeTransformed(t *testing.T) {
	body := event.NewBody(shapedID, shapedType, 1, []byte(`{"object":{"id":"pay_1","secret":"s3cret"}}`))
	shapes := []Shape{{Format: Standard, Transform: `{"object": data.object.public}`}, {Since: 100, Format: Standard, Transform: `{"object": data.object.other}`}}
	fails := func(body []byte) {
		t.Helper()
		if p, err := transformed(t, shapes...).Payload(1, shapedID, shapedType, body); err == nil || p.Body != nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("sent %s, %v", p.Body, err)
		}
	}
	fails(body)
	fails([]byte(`not a body, s3cret`))
	shapes = append(shapes, Shape{Since: 200, Format: Standard, Transform: `{"object": {"id": data.object.id}}`})
	const want = `{"id":"` + shapedID + `","type":"payment.succeeded","created":1,"data":{"object":{"id":"pay_1"}}}`
	for range 3 {
		for k, sent := range map[event.Key]bool{1: true, 150: true, 250: len(shapes) == 3} {
			p, err := transformed(t, shapes...).Payload(k, shapedID, shapedType, body)
			if sent && (err != nil || string(p.Body) != want) {
				t.Errorf("event %d with %d shapes: %s %v", k, len(shapes), p.Body, err)
			}
		}
		shapes = append(shapes, Shape{Since: event.Key(100 * (len(shapes) + 1)), Format: []Format{Thin, Standard}[len(shapes)%2]})
	}
}
