package event

import (
	"bytes"
	"math"
	"strconv"

	"github.com/posthaste-hq/posthaste/internal/fault"
)

// Input contains a sender's parameters of an event.
type Input struct {
	Type       string
	ID         string // empty: the server generates one
	Created    int64  // Unix seconds, if HasCreated
	HasCreated bool
	Data       []byte // the value of "data", in stable form
	Raw        *Raw   // nil: none; Data holds it too
	Headers    map[string]string
}

// maxTime is the end of the year 9999, in Unix seconds.
const maxTime = 253402300799

// CheckTime returns a fault for the parameter unless seconds is a whole number of Unix seconds,
// at least least and at most the end of the year 9999.
func CheckTime(param string, seconds, least float64) error {
	if seconds == math.Trunc(seconds) && seconds >= least && seconds <= maxTime {
		return nil
	}
	for i, unit := range []string{"milliseconds", "microseconds", "nanoseconds"} {
		if n := math.Floor(seconds / math.Pow(1000, float64(i+1))); seconds > maxTime && n <= maxTime {
			return fault.Param(param, "parameter_invalid", "The time must be in Unix seconds, but %.0f looks like %s: send %.0f.", seconds, unit, n)
		}
	}
	return fault.Param(param, "parameter_invalid", "The time must be an integer of Unix seconds, from %.0f to %d.", least, int64(maxTime))
}

// ParseInput reads the JSON of a request to send an event: an object of "type",
// "data" with an "object", and optionally "id" and "created"; with "raw" and "content_type",
// "data" is optional. It keeps nothing of raw. Errors are fault.Invalid with the JSON path as
// Param.
func ParseInput(raw []byte) (Input, error) {
	w := getWriter(raw)
	defer w.free()
	var in Input
	if w.dec.PeekKind() != '{' {
		if _, err := w.dec.ReadValue(); err != nil {
			return Input{}, w.syntax(err)
		}
		return Input{}, fault.Param("", "json_invalid", `The request body must be a JSON object such as {"type":"payment.succeeded","data":{"object":{…}}}.`)
	}
	if err := w.open(1); err != nil {
		return Input{}, err
	}
	for w.dec.PeekKind() != '}' {
		name, err := w.dec.ReadValue()
		if err != nil {
			return Input{}, w.syntax(err)
		}
		if err := w.field(&in, string(name)); err != nil {
			return Input{}, err
		}
	}
	if _, err := w.dec.ReadToken(); err != nil {
		return Input{}, w.syntax(err)
	}
	if err := w.end(); err != nil {
		return Input{}, err
	}
	return in, in.check()
}

// field reads the value of one top-level field; name is quoted.
func (w *stableWriter) field(in *Input, name string) (err error) {
	switch name {
	case `"type"`:
		in.Type, err = w.text("type")
	case `"id"`:
		in.ID, err = w.text("id")
		if err == nil && in.ID == "" {
			err = fault.Param("id", "parameter_invalid", "The id is empty. Omit it to have one generated.")
		}
	case `"created"`:
		in.HasCreated = true
		in.Created, err = w.seconds("created")
	case `"data"`:
		if w.dec.PeekKind() != '{' {
			if _, err := w.dec.ReadValue(); err != nil {
				return w.syntax(err)
			}
			return fault.Param("data", "parameter_invalid", `The data must be a JSON object: {"object":{…}}.`)
		}
		in.Data, err = w.value(make([]byte, 0, len(w.source)), 1, false)
	case `"headers"`:
		in.Headers, err = w.headers()
	case `"raw"`:
		in.raw().Base64, err = w.text("raw")
		in.Raw.given = true
	case `"content_type"`:
		in.raw().ContentType, err = w.text("content_type")
	default:
		path := w.path(w.dec.StackPointer())
		if _, err := w.dec.ReadValue(); err != nil {
			return w.syntax(err)
		}
		err = fault.Param(path, "parameter_unknown", "Unknown parameter '%s'. An event has type, data, id, created, headers, raw and content_type.", path)
	}
	return err
}

func (w *stableWriter) text(param string) (string, error) {
	if w.dec.PeekKind() != '"' {
		if _, err := w.dec.ReadValue(); err != nil {
			return "", w.syntax(err)
		}
		return "", fault.Param(param, "parameter_invalid", "The %s must be a string.", param)
	}
	t, err := w.dec.ReadToken()
	if err != nil {
		return "", w.syntax(err)
	}
	return t.String(), nil
}

func (w *stableWriter) seconds(param string) (int64, error) {
	raw, err := w.dec.ReadValue()
	if err != nil {
		return 0, w.syntax(err)
	}
	n, perr := strconv.ParseInt(string(raw), 10, 64)
	if perr != nil {
		n = -1 // a fraction, an exponent, or out of the range of an int64
	}
	return n, CheckTime(param, float64(n), 1)
}

func (in *Input) check() error {
	switch {
	case in.Type == "":
		return fault.Param("type", "parameter_missing", `Set the event's type, such as "payment.succeeded".`)
	case !ValidType(in.Type):
		return fault.Param("type", "event_type_invalid",
			`An event type must consist of %s, such as "payment.succeeded", and have at most %d characters.`, TypeRule, MaxTypeLength)
	case in.ID != "" && !ValidID(in.ID):
		return fault.Param("id", "parameter_invalid",
			"An event id must consist of %s, and have at most %d characters.", IDRule, MaxIDLength)
	case in.Data == nil && in.Raw == nil:
		return fault.Param("data", "parameter_missing", `Set the event's data: {"object":{…}}.`)
	}
	if in.Data != nil {
		if err := checkObject(in.Data); err != nil {
			return err
		}
	}
	if in.Raw == nil {
		return nil
	}
	if err := in.Raw.check(); err != nil {
		return err
	}
	var err error
	in.Data, err = in.Raw.within(in.Data)
	return err
}

// raw returns the raw bytes of the input, created if necessary.
func (in *Input) raw() *Raw {
	if in.Raw == nil {
		in.Raw = new(Raw)
	}
	return in.Raw
}

// checkObject refuses data without an "object" that is an object. data is in stable form, so a
// member's name and value are adjacent.
func checkObject(data []byte) error {
	if bytes.HasPrefix(data, []byte(`{"object":{`)) { // the usual form
		return nil
	}
	w := getWriter(data)
	defer w.free()
	if err := w.open(1); err != nil {
		return err
	}
	for w.dec.PeekKind() != '}' {
		name, err := w.dec.ReadValue()
		if err != nil {
			return w.syntax(err)
		}
		found := string(name) == `"object"`
		if found && w.dec.PeekKind() == '{' {
			return nil
		}
		if found {
			return fault.Param("data.object", "parameter_invalid", "The data's object must be a JSON object.")
		}
		if err := w.dec.SkipValue(); err != nil {
			return w.syntax(err)
		}
	}
	return fault.Param("data.object", "parameter_missing", `The data must contain an object: {"object":{…}}.`)
}

// NewBody returns the body that is stored, signed and sent. id, typ and data must be valid and
// data in stable form; then the whole body is.
func NewBody(id, typ string, created int64, data []byte) []byte {
	b := make([]byte, 0, len(id)+len(typ)+len(data)+len(`{"id":"","type":"","created":,"data":}`)+20)
	b = append(b, `{"id":"`...)
	b = append(b, id...)
	b = append(b, `","type":"`...)
	b = append(b, typ...)
	b = append(b, `","created":`...)
	b = strconv.AppendInt(b, created, 10)
	b = append(b, `,"data":`...)
	b = append(b, data...)
	return append(b, '}')
}
