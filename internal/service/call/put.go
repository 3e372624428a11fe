package call

import (
	"errors"

	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
)

// maxPuts bounds how often Put tries again. Each time, another request has created or deleted the
// object in between.
const maxPuts = 20

// Put changes the object with an external id, or creates it if there is none.
func Put[T any](change, create func() (T, error)) (v T, err error) {
	for range maxPuts {
		if v, err = change(); !fault.Is(err, fault.NotFound) {
			return v, err
		}
		var f *fault.Error
		if v, err = create(); !errors.As(err, &f) || f.Reason != "external_id_taken" {
			return v, err
		}
	}
	return v, err
}

// CheckPut refuses an external id in a path that no object can have, and one in the body that
// contradicts it. prefix is that of the server's own ids.
func CheckPut(path string, body *string, prefix string, reserved ...string) error {
	if body != nil && *body != path {
		return fault.Param("external_id", "parameter_invalid", "The external id is in the path, and external_id differs from it. Leave external_id out.")
	}
	return event.CheckExternalID(path, prefix, reserved...)
}
