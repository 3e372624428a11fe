package endpoint

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/expression"
	"github.com/posthaste-hq/posthaste/internal/fault"
)

// Format is the format of the events that an endpoint receives.
type Format string

// The formats.
const (
	Standard   Format = "standard"               // the stored body
	Structured Format = "cloudevents_structured" // a CloudEvent as one JSON object
	Binary     Format = "cloudevents_binary"     // a CloudEvent with its attributes in headers
	Thin       Format = "thin"                   // the type and the URL of the event, without its data
	Data       Format = "data"                   // only the object
	Form       Format = "form"                   // only the object, form-encoded
	Raw        Format = "raw"                    // the bytes that the sender gave; without them, the stored body
	// Transformed is the result of the transformation, which is the whole body.
	Transformed Format = "transform"
)

// formats is the options of payload_format.
var formats = []Option{
	{string(Standard), "The event"}, {string(Structured), "CloudEvents, structured"}, {string(Binary), "CloudEvents, binary"}, {string(Thin), "Thin: no data"},
	{string(Data), "Data: only the object"}, {string(Form), "Form: the object, form-encoded"}, {string(Raw), "Raw: the bytes that the sender gave"},
	{string(Transformed), "Transform: the result of the transformation"},
}

// formType is the media type of [Form].
const formType = "application/x-www-form-urlencoded"

const (
	// MaxShapes bounds how often an endpoint's format can be changed, because the formats of
	// earlier events are kept.
	MaxShapes = 100
	// ShapeDelay is the time after which a change takes effect. By then every node knows it, so
	// that no event is sent in the old format first and in the new one on a retry.
	ShapeDelay = 2 * time.Second

	maxSubject = 256 // bytes
)

// Shape is the format of events from one event on. It depends on events rather than on the time
// of an attempt, so that every attempt under one webhook-id sends the same bytes.
type Shape struct {
	Since  event.Key `json:"since,omitempty"`
	Format Format    `json:"format"`
	Source string    `json:"source,omitempty"` // of CloudEvents
	// Transform is the expression for the data or, with the format Transformed, for the body;
	// empty: unchanged.
	Transform string `json:"transform,omitempty"`
}

// Format returns the latest format of an endpoint.
func (e *Endpoint) Format() Format {
	if n := len(e.Settings.Shapes); n > 0 {
		return e.Settings.Shapes[n-1].Format
	}
	return Standard
}

// Transform returns the latest transformation of an endpoint, empty for none.
func (e *Endpoint) Transform() string {
	if n := len(e.Settings.Shapes); n > 0 {
		return e.Settings.Shapes[n-1].Transform
	}
	return ""
}

// SetShape changes the shape of events from its key on; for a new endpoint, of all. param is
// the parameter that requested it. Errors: fault.Invalid.
func (e *Endpoint) SetShape(param string, s Shape) error {
	have := e.Settings.Shapes
	switch {
	case s.Format == e.Format() && s.Transform == e.Transform():
		return nil
	case len(have) >= MaxShapes:
		return fault.Param(param, "parameter_invalid", "The format and the transformation were changed %d times, which is the limit. Create a new endpoint.", MaxShapes-1)
	case e.No == 0:
		s.Since = 0
	case len(have) == 0:
		have = []Shape{{Format: Standard}}
	}
	// The list is shared with the endpoint in use.
	e.Settings.Shapes = append(have[:len(have):len(have)], s)
	return nil
}

// shapesOf returns the shape of an event, and the later ones. Of two with the same beginning,
// the later one applies.
func (e *Endpoint) shapesOf(k event.Key) []Shape {
	for i, s := range slices.Backward(e.Settings.Shapes) {
		if s.Since <= k {
			return e.Settings.Shapes[i:]
		}
	}
	return []Shape{{Format: Standard}}
}

// Payload is the body and the headers that an endpoint receives for one event.
type Payload struct {
	Body        []byte
	ContentType string              // empty: application/json
	Attributes  map[string][]string // further headers, by canonical name
	Made        bool                // rendered from the event's body, instead of being that

	Cost time.Duration // approximate processor time of the transformation, also if it failed
}

// MediaType returns the payload's Content-Type.
func (p *Payload) MediaType() string { return cmp.Or(p.ContentType, "application/json") }

// Payload returns what the endpoint receives for an event with that stored body. It depends on
// nothing else, so that every attempt sends the same.
//
// If its transformation fails, an event is never sent untransformed: the transformation may
// exist to withhold data. As nothing was sent under its id, the first later shape that succeeds
// is used, which is how a transformation is corrected.
func (e *Endpoint) Payload(k event.Key, id, typ string, body []byte) (Payload, error) {
	if len(e.Settings.Shapes) == 0 {
		return Payload{Body: body, ContentType: e.Settings.ContentType}, nil
	}
	var first error
	var cost time.Duration
	for _, s := range e.shapesOf(k) {
		p, err := e.shaped(&s, id, typ, body)
		cost += p.Cost
		if err == nil {
			p.Cost, p.ContentType = cost, cmp.Or(e.Settings.ContentType, p.ContentType)
			return p, nil
		}
		if first == nil {
			first = err
		}
	}
	return Payload{Cost: cost}, first
}

// PayloadSent returns what the endpoint received for an event, of which only the SHA-256 is
// known: the payload of one of the endpoint's shapes, or false if none has that hash, because
// an earlier version of the server rendered it differently.
func (e *Endpoint) PayloadSent(sum []byte, k event.Key, id, typ string, body []byte) ([]byte, bool) {
	is := func(p Payload, err error) bool {
		if err != nil {
			return false
		}
		have := sha256.Sum256(p.Body)
		return bytes.Equal(have[:], sum)
	}
	if p, err := e.Payload(k, id, typ, body); is(p, err) { // nearly always the case
		return p.Body, true
	}
	for i := range e.Settings.Shapes {
		if p, err := e.shaped(&e.Settings.Shapes[i], id, typ, body); is(p, err) {
			return p.Body, true
		}
	}
	return nil, false
}

func (e *Endpoint) shaped(s *Shape, id, typ string, body []byte) (Payload, error) {
	if s.Format == Standard && s.Transform == "" {
		return Payload{Body: body}, nil
	}
	created, data, ok := event.SplitBody(body)
	var cost time.Duration
	switch {
	case !ok && s.Transform == "":
		return Payload{Body: body}, nil
	case !ok:
		return Payload{}, errors.New("the event has no data")
	case s.Format == Transformed:
		return transformedBody(s.Transform, id, typ, created, data)
	case s.Transform != "":
		var err error
		if data, cost, err = transform(s.Transform, id, typ, created, data); err != nil {
			return Payload{Cost: cost}, err
		}
		body = event.NewBody(id, typ, created, data)
	}
	p, err := e.formed(s, id, typ, created, data, body)
	p.Cost = cost
	return p, err
}

// transformedBody returns the body that an expression makes of an event.
func transformedBody(source, id, typ string, created int64, data []byte) (Payload, error) {
	t, err := expression.CachedTransform("transform", source, true)
	if err != nil {
		return Payload{}, err
	}
	in := expression.NewInput(id, typ, created, data)
	body, media, err := t.Body(in)
	return Payload{Body: body, ContentType: media, Made: true, Cost: in.Cost()}, err
}

// transform returns the transformed data of an event, in stable form, and the approximate
// processor time.
func transform(source, id, typ string, created int64, data []byte) (out []byte, cost time.Duration, err error) {
	t, err := expression.CachedTransform("transform", source, false)
	if err != nil {
		return nil, 0, err
	}
	in := expression.NewInput(id, typ, created, data)
	if out, err = t.Apply(in); err != nil {
		return nil, in.Cost(), err
	}
	out, err = event.AppendStable(nil, out, "data")
	return out, in.Cost(), err
}

// formed returns an event in the format of a shape.
func (e *Endpoint) formed(s *Shape, id, typ string, created int64, data, body []byte) (Payload, error) {
	p, err := Payload{Body: body, Made: true}, error(nil)
	switch s.Format {
	case Data:
		p.Body, err = objectOf(data)
	case Form:
		p.ContentType = formType
		if p.Body, err = objectOf(data); err == nil {
			p.Body, err = formEncoded(p.Body)
		}
	case Raw:
		if raw, media, ok := event.RawOf(data); ok {
			p.Body, p.ContentType = raw, media
		} else {
			p.Made = false
		}
	case Structured:
		p.Body, p.ContentType = structured(s.Source, id, typ, created, data), "application/cloudevents+json"
	case Binary:
		p.Body, p.Attributes = data, attributes(s.Source, id, typ, created, data)
	case Thin:
		p.Body = thin(e.Live(), id, typ, created, data)
	}
	return p, err
}

// objectOf returns the object of an event's data.
func objectOf(data []byte) (jsontext.Value, error) {
	var d struct {
		Object jsontext.Value `json:"object"`
	}
	if err := json.Unmarshal(data, &d, jsontext.AllowInvalidUTF8(true)); err != nil {
		return nil, err
	}
	if d.Object == nil {
		return nil, errors.New(`the result of the transformation has no "object", and the format sends only that`)
	}
	return d.Object, nil
}

// timestamp returns Unix seconds as RFC 3339.
func timestamp(created int64) string { return time.Unix(created, 0).UTC().Format(time.RFC3339) }

// structured returns a CloudEvent in the JSON format. All but data is plain text.
func structured(source, id, typ string, created int64, data []byte) []byte {
	b := make([]byte, 0, len(data)+len(source)+len(id)+len(typ)+maxSubject+200)
	b = append(b, `{"specversion":"1.0","id":"`+id+`","source":"`+source+`","type":"`+typ+`","time":"`+timestamp(created)+`"`...)
	if raw, _, ok := subject(data); ok {
		b = append(append(b, `,"subject":`...), raw...)
	}
	b = append(append(b, `,"datacontenttype":"application/json","data":`...), data...)
	return append(b, '}')
}

// attributes returns the headers of a CloudEvent in HTTP's binary mode.
func attributes(source, id, typ string, created int64, data []byte) map[string][]string {
	h := map[string][]string{"Ce-Specversion": {"1.0"}, "Ce-Id": {id}, "Ce-Source": {source}, "Ce-Type": {typ}, "Ce-Time": {timestamp(created)}}
	if _, text, ok := subject(data); ok {
		h["Ce-Subject"] = []string{percentEncode(text)}
	}
	return h
}

// thin returns an event without its data. It contains the id and the type of the event's
// object, each if that is a string.
func thin(live bool, id, typ string, created int64, data []byte) []byte {
	o, mode := aboutOf(data), "test"
	if live {
		mode = "live"
	}
	b := make([]byte, 0, 2*len(id)+len(typ)+len(o.ID)+len(o.Object)+150)
	b = append(b, `{"id":"`+id+`","type":"`+typ+`","created":`...)
	b = strconv.AppendInt(b, created, 10)
	b = append(b, `,"mode":"`+mode+`","object":{"id":`...)
	b = append(append(b, textOrNull(o.ID)...), `,"type":`...)
	b = append(append(b, textOrNull(o.Object)...), `},"event_url":"/v1/events/`+id+`"}`...)
	return b
}

func textOrNull(v jsontext.Value) jsontext.Value {
	if v.Kind() == '"' {
		return v
	}
	return jsontext.Value("null")
}

// about is the identity of an event's object.
type about struct {
	ID     jsontext.Value `json:"id"`
	Object jsontext.Value `json:"object"`
}

// aboutOf reads it from stable data; missing fields stay empty.
func aboutOf(data []byte) about {
	var d struct {
		Object about `json:"object"`
	}
	// A stable body may contain the escapes of lone surrogates, as JSON.stringify writes them.
	if json.Unmarshal(data, &d, jsontext.AllowInvalidUTF8(true)) != nil {
		return about{}
	}
	return d.Object
}

// subject returns the object's id, as written in data and as text, if it can be the subject of
// a CloudEvent and a header.
func subject(data []byte) (raw jsontext.Value, text string, ok bool) {
	raw = aboutOf(data).ID
	if raw.Kind() != '"' || json.Unmarshal(raw, &text) != nil || text == "" || len(text) > maxSubject || !utf8.ValidString(text) {
		return nil, "", false
	}
	forbidden := func(r rune) bool { // CloudEvents 1.0, "Type System", String
		return unicode.IsControl(r) || r&0xfffe == 0xfffe || 0xfdd0 <= r && r <= 0xfdef
	}
	return raw, text, !strings.ContainsFunc(text, forbidden)
}

// percentEncode encodes a value for a header, by the HTTP binding of CloudEvents.
func percentEncode(s string) string {
	const digits = "0123456789ABCDEF"
	b := make([]byte, 0, len(s))
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' || c == '"' || c == '%' {
			b = append(b, '%', digits[c>>4], digits[c&15])
		} else {
			b = append(b, c)
		}
	}
	return string(b)
}

// checkTransform refuses invalid transformations, and those that the format does not apply.
func (e *Endpoint) checkTransform() error {
	source := e.Transform()
	switch f := e.Format(); {
	case source == "" && f == Transformed:
		return fault.Param("transform", "parameter_missing", "Set the expression whose result is the body: the payload format %s requires it.", Transformed)
	case source == "":
		return nil
	case f == Raw:
		return fault.Param("transform", "parameter_invalid", "The payload format %s sends the sender's bytes as they are. Leave transform out, or choose another payload_format.", Raw)
	}
	_, err := expression.CompileTransform("transform", source, e.Format() == Transformed)
	return err
}

// checkFormat refuses unknown formats and those that the endpoint's kind cannot transfer.
func (e *Endpoint) checkFormat() error {
	options := Field{Options: formats}
	switch f := e.Format(); {
	case !options.offers(string(f)):
		return fault.Param("payload_format", "parameter_invalid", "The format must be %s.", options.choices())
	case f == Binary && !e.Kind().Headers:
		return fault.Param("payload_format", "parameter_invalid", "The binary mode of CloudEvents requires HTTP. For a broker use %q.", Structured)
	}
	return nil
}
