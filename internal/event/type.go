package event

import (
	"encoding/json"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/posthaste-hq/posthaste/internal/fault"
)

// Validation determines the handling of an event that does not match its type's schema.
type Validation string

// The validations.
const (
	ValidateOff    Validation = "off"    // events are not validated
	ValidateWarn   Validation = "warn"   // it is accepted with a warning
	ValidateReject Validation = "reject" // it is refused
)

// Definition is an account's definition of one event type. A value returned by [Definitions] is
// shared and must not be changed.
type Definition struct {
	No          int64 // store number; 0 until stored
	Space       Space
	Name        string
	Description string
	Validation  Validation
	Deprecated  bool
	Samples     []json.RawMessage // values of "data", in stable form
	Schema      []byte            // JSON Schema of the body, in stable form; empty: none
	Version     int               // of the schema; 0: none so far
	Created     time.Time
	Updated     time.Time
	Revision    int64 // of the stored row; each write increases it

	checker *checker // of Schema
}

// SchemaVersion is a current or earlier schema of a type.
type SchemaVersion struct {
	Number  int
	Schema  []byte // empty: it was removed
	Created time.Time
}

// Limits of the contents and the number of definitions.
const (
	MaxTypeDescription = 5000
	MaxSchema          = 64 << 10 // bytes
	MaxSchemaVersions  = 1000
	MaxSamples         = 5
	MaxSample          = 32 << 10 // bytes
)

// Check converts schema and samples to the stable form. It returns a fault.Invalid that names
// the first invalid field, nil if all are valid.
func (d *Definition) Check() error {
	switch {
	case !ValidType(d.Name):
		return fault.Param("name", "event_type_invalid",
			`An event type must consist of %s, such as "payment.succeeded", and have at most %d characters.`, TypeRule, MaxTypeLength)
	case Operational(d.Name):
		return fault.Param("name", "event_type_reserved", "Events of type %s are created by the server. The type cannot be redefined.", d.Name)
	case utf8.RuneCountInString(d.Description) > MaxTypeDescription:
		return fault.Param("description", "parameter_invalid", "The description is longer than %d characters.", MaxTypeDescription)
	}
	switch d.Validation {
	case ValidateOff, ValidateWarn, ValidateReject:
	default:
		return fault.Param("validation", "parameter_invalid", "The validation must be %q, %q or %q.", ValidateOff, ValidateWarn, ValidateReject)
	}
	if err := d.checkSchema(); err != nil {
		return err
	}
	return d.checkSamples()
}

func (d *Definition) checkSchema() (err error) {
	d.checker = nil
	if len(d.Schema) == 0 {
		if d.Validation != ValidateOff {
			return fault.Param("schema", "parameter_missing", "Set a schema to validate against, or set validation to off.")
		}
		return nil
	}
	if len(d.Schema) > MaxSchema {
		return fault.Param("schema", "schema_too_large", "The schema is larger than %d bytes.", MaxSchema)
	}
	if d.Schema, err = AppendStable(nil, d.Schema, "schema"); err != nil {
		return err
	}
	d.checker, err = checkerOf(d.Schema)
	return err
}

func (d *Definition) checkSamples() error {
	if len(d.Samples) > MaxSamples {
		return fault.Param("samples", "parameter_invalid", "An event type can have at most %d samples.", MaxSamples)
	}
	for i, raw := range d.Samples {
		param := fmt.Sprintf("samples[%d]", i)
		if len(raw) > MaxSample {
			return fault.Param(param, "sample_too_large", "The sample is larger than %d bytes.", MaxSample)
		}
		data, err := AppendStable(nil, raw, param)
		if err != nil {
			return err
		}
		if len(data) == 0 || data[0] != '{' || checkObject(data) != nil {
			return fault.Param(param, "parameter_invalid", `A sample must be an event's data: {"object":{…}}.`)
		}
		d.Samples[i] = data
		if d.checker == nil {
			continue
		}
		if wrong := d.checker.check(sampleBody(d.Name, data)); wrong != nil {
			return fault.Param(param, "schema_mismatch", "The sample does not match the schema: %s: %s", wrong.Param, wrong.Message)
		}
	}
	return nil
}

// sampleBody returns a body with a sample's data.
func sampleBody(name string, data []byte) []byte {
	return NewBody("evt_1234567890abcdef", name, 1699564800, data)
}

// Fits returns the first mismatch of a body with the schema, nil if it matches or there is no
// schema: a fault.Invalid whose Param is the JSON path. cost is the approximate processor time.
func (d *Definition) Fits(body []byte) (wrong *fault.Error, cost time.Duration) {
	if d.checker == nil {
		return nil, 0
	}
	const step, perByte = 200 * time.Nanosecond, 20 * time.Nanosecond
	wrong, steps := d.checker.take(body)
	return wrong, time.Duration(steps)*step + time.Duration(len(body))*perByte
}

// Sample returns the data of the first sample, nil if there is none.
func (d *Definition) Sample() []byte {
	if d == nil || len(d.Samples) == 0 {
		return nil
	}
	return d.Samples[0]
}
