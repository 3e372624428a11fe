package endpoint

import (
	"testing"

	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
)

func TestAccepts_neverLosesAnEvent(t *testing.T) {
	in := InputOf(&event.Event{ID: shapedID, Type: shapedType, Created: 1, Body: event.NewBody(shapedID, shapedType, 1, []byte(`{"object":{"amount":2999}}`))})
	for _, tt := range []struct {
		filter string
		want   bool
		fails  bool
	}{
		{"", true, false},
		{`data.object.amount > 1000 && type == "payment.succeeded" && id.startsWith("evt_") && created == 1`, true, false},
		{`data.object.amount > 5000`, false, false},
		{`data.object.currency == "EUR"`, true, true},
		{`not an expression`, true, true}, // accepted by an earlier version, for example
	} {
		e := &Endpoint{Config: Config{Settings: Settings{Filter: tt.filter}}}
		if got, err := e.Accepts(in); got != tt.want || (err != nil) != tt.fails {
			t.Errorf("%s: %v %v", tt.filter, got, err)
		}
	}
}

func TestCheck_filter(t *testing.T) {
	e := &Endpoint{Config: Config{URL: "https://example.com", Events: []string{"*"}, Settings: Settings{Filter: `data.object.amount > 1000`}}}
	if err := e.Check(Rules{}); err != nil {
		t.Error(err)
	}
	e.Settings.Filter = `amount > 1000`
	if f, ok := e.Check(Rules{}).(*fault.Error); !ok || f.Code != fault.Invalid || f.Param != "filter" || f.Reason != "expression_invalid" {
		t.Errorf("got %v", f)
	}
}
