package endpoint

import (
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/expression"
)

// Accepts reports whether the filter accepts an event. If it cannot be evaluated, it accepts
// the event and returns an error: a receiver can ignore an additional event, but a withheld
// event is lost.
func (e *Endpoint) Accepts(in *expression.Input) (bool, error) {
	if e.Settings.Filter == "" {
		return true, nil
	}
	x, err := expression.Cached("filter", e.Settings.Filter)
	if err != nil {
		return true, err
	}
	accepted, err := x.Match(in)
	return accepted || err != nil, err
}

// InputOf returns the view of an event that filters have.
func InputOf(e *event.Event) *expression.Input {
	return expression.NewInput(e.ID, e.Type, e.Created, e.Data())
}

func (e *Endpoint) checkFilter() error {
	if e.Settings.Filter == "" {
		return nil
	}
	_, err := expression.Compile("filter", e.Settings.Filter)
	return err
}
