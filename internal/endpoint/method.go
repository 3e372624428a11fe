package endpoint

import (
	"cmp"
	"mime"

	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
)

// The methods of deliveries.
const (
	MethodPost = "POST"
	MethodPut  = "PUT"
)

// Method returns the HTTP method of the endpoint's deliveries.
func (e *Endpoint) Method() string { return cmp.Or(e.Settings.Method, MethodPost) }

func (e *Endpoint) checkMethod() error {
	switch m := e.Method(); {
	case m != MethodPost && m != MethodPut:
		return fault.Param("method", "parameter_invalid", "The method must be %q or %q.", MethodPost, MethodPut)
	case m != MethodPost && !e.Kind().Called:
		return fault.Param("method", "parameter_invalid", "Deliveries to an endpoint of the kind %s have no method. Leave it out.", e.Kind().Name)
	}
	return nil
}

func (e *Endpoint) checkContentType() error {
	v := e.Settings.ContentType
	media, _, _ := mime.ParseMediaType(v)
	switch {
	case v == "":
	case !event.ValidContentType(v):
		return fault.Param("content_type", "parameter_invalid", "The content type must be a media type of at most %d ASCII characters, such as application/json; charset=utf-8.", event.MaxContentType)
	case e.Format() == Form && media != formType:
		return fault.Param("content_type", "parameter_invalid", "The payload format form is %s, which receivers cannot read as another type. Leave content_type out, or choose another payload_format.", formType)
	}
	return nil
}
