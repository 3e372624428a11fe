package store

import (
	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/event"
)

// Occasion is an event with its delivery to one endpoint.
type Occasion struct {
	Key      event.Key
	Type     string
	Delivery *delivery.Delivery // nil: there was none
}
