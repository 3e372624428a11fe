package endpoint

import (
	"testing"

	"github.com/posthaste-hq/posthaste/internal/fault"
)

func TestKindOf(t *testing.T) {
	for url, want := range map[string]*Kind{
		"https://example.com/": HTTP, "http://example.com/": HTTP, "broker://orders/a": AtBroker, "broker:orders": HTTP, "listen:laptop": Listener, ListenerURL("x"): Listener, "": HTTP,
	} {
		if got := KindOf(url); got != want {
			t.Errorf("%q is of the kind %s, want %s", url, got.Name, want.Name)
		}
	}
	for _, tt := range []struct {
		kind *Kind
		by   Setter
		may  bool
	}{{HTTP, Customers, true}, {AtBroker, Accounts, false}, {AtBroker, Operators, true}, {Listener, Operators, false}} {
		if err := tt.kind.RefuseTo(tt.by); (err == nil) != tt.may || err != nil && !fault.Is(err, fault.Invalid) {
			t.Errorf("a caller of class %d creates an endpoint of the kind %s: %v", tt.by, tt.kind.Name, err)
		}
	}
	for _, e := range []Endpoint{{Config: Config{URL: "listen:laptop"}}, {Config: Config{URL: "broker://orders/a"}}} {
		e.Events, e.Status, e.Auth = []string{"*"}, Enabled, Authentication{Type: AuthBasic, Username: "a", Password: "b"}
		if err := e.Check(Rules{Brokers: func(string) bool { return true }}); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s with authentication: %v", e.URL, err)
		}
		e.Auth, e.TLS.RootCAs = Authentication{}, "x"
		if err := e.Check(Rules{Brokers: func(string) bool { return true }}); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s with certificates: %v", e.URL, err)
		}
	}
}

// A field that only some callers may set is refused to the others.
func TestParams_setter(t *testing.T) {
	f := &Fields[2] // the description
	defer func(was Setter) { f.By = was }(f.By)
	f.By = Accounts
	for by, may := range map[Setter]bool{Customers: false, Accounts: true, Operators: true} {
		var e Endpoint
		err := Params{"description": "mine"}.Apply(&e, Edit{By: by})
		if (err == nil) != may || fault.Is(err, fault.Forbidden) == may || (e.Description == "mine") != may {
			t.Errorf("set by the class %d: %v, and it is %q", by, err, e.Description)
		}
	}
}

// Text and Parse are inverse for every kind that has a text.
func TestField_text(t *testing.T) {
	for name, texts := range map[string][]string{
		"timeout": {"", "7"}, "max_concurrency": {"", "3"}, "rate_limit": {"", "0.5"}, "retry_schedule": {"", "none", "10s, 1m, 1h, 1h30m"},
		"metadata": {"", "a: b\nc: d"}, "enabled_events": {"a.b, c.*"}, "signature_schemes": {"v1", "v1,v1a"}, "description": {"", "some text"}, "ordering": {"none", "fifo"},
	} {
		for i := range Fields {
			f := &Fields[i]
			if f.Name != name {
				continue
			}
			for _, text := range texts {
				v, err := f.Parse(text)
				e := Endpoint{Secrets: []Secret{{}}}
				if err == nil {
					err = Params{name: v}.Apply(&e, Edit{})
				}
				if got := f.Text(&e); err != nil || got != text {
					t.Errorf("%s: %q becomes %q: %v", name, text, got, err)
				}
			}
		}
	}
}
