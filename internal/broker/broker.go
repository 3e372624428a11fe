// Package broker owns the exchange with message brokers: the interface that all of them
// implement, endpoints that are addresses at a broker, and sources that events are taken from.
//
// The operator names each broker and sets its URL and credentials; endpoints and sources refer
// to that name and an address at the broker. The form of addresses depends on the broker: see
// its package. This package must not know SQL, HTTP handlers or a broker's protocol.
package broker

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/weburl"
)

// Message is a message to or from a broker.
type Message struct {
	ID     string            // unique; some brokers drop a message with an id that they have seen
	Time   time.Time         // when it was stored or created, the same in every redelivery; zero: unknown
	Header map[string]string // the headers of the same request over HTTP
	Body   []byte
}

// Broker is a connection to a message broker, which reconnects when it is lost. It is safe for
// concurrent use.
type Broker interface {
	// Publish returns once the broker has stored the message; record says where.
	Publish(ctx context.Context, address string, m Message) (receipt string, err error)
	// Consume passes the messages of an address to take, several at a time, until ctx ends or the
	// connection breaks. A message is acknowledged if take returns nil or [ErrRefused]; otherwise
	// it is redelivered.
	Consume(ctx context.Context, address string, take func(context.Context, Message) error) error
	Close() error
}

// ErrRefused is the error for a message that can never be accepted.
var ErrRefused = errors.New("refused")

// AtOnce is how many messages of a source are processed at a time.
const AtOnce = 64

// Named has the brokers of the configuration, by name.
type Named map[string]Broker

// Spec is a broker in the configuration.
type Spec struct {
	Name string
	URL  *url.URL // with credentials
}

// ParseSpecs reads "name=url" pairs, separated by white space. Its errors do not contain the
// URLs, which may hold passwords.
func ParseSpecs(text string) (all []Spec, err error) {
	for i, field := range strings.Fields(text) {
		name, raw, ok := strings.Cut(field, "=")
		if !ok || !endpoint.ValidBroker(name) {
			return nil, fmt.Errorf("broker %d: use name=url, with a name of lower-case letters, digits and hyphens", i+1)
		}
		u, err := url.Parse(raw)
		if err != nil || u.Host == "" {
			return nil, fmt.Errorf("broker %s: use a URL such as nats://broker.internal:4222", name)
		}
		if u.Host, err = asciiHosts(u.Host); err != nil {
			return nil, fmt.Errorf("broker %s: %w", name, err)
		}
		for _, have := range all {
			if have.Name == name {
				return nil, fmt.Errorf("broker %s: duplicate name", name)
			}
		}
		all = append(all, Spec{name, u})
	}
	return all, nil
}

// asciiHosts returns hosts, separated by commas and each with an optional port, in their ASCII
// form: the libraries of the brokers resolve names unchanged.
func asciiHosts(list string) (string, error) {
	hosts := strings.Split(list, ",")
	for i, host := range hosts {
		name, port := host, ""
		if colon := strings.LastIndexByte(host, ':'); colon > strings.LastIndexByte(host, ']') {
			name, port = host[:colon], host[colon:]
		}
		name, err := weburl.Host(strings.Trim(name, "[]"))
		if err != nil {
			return "", err
		}
		if strings.Contains(name, ":") {
			name = "[" + name + "]"
		}
		hosts[i] = name + port
	}
	return strings.Join(hosts, ","), nil
}

// SourceSpec is a source of events and the account that receives them.
type SourceSpec struct {
	Broker, Address string
	Account         string // id
	Live            bool
}

// String returns the source in the form that ParseSources reads.
func (s SourceSpec) String() string {
	mode := "test"
	if s.Live {
		mode = "live"
	}
	return s.Broker + "/" + s.Address + "=" + s.Account + ":" + mode
}

// ParseSources reads "broker/address=account:mode" pairs, separated by white space.
func ParseSources(text string) (all []SourceSpec, err error) {
	for _, field := range strings.Fields(text) {
		from, to, ok := cutLast(field, "=")
		s := SourceSpec{}
		var ok2, ok3 bool
		s.Broker, s.Address, ok2 = strings.Cut(from, "/")
		var mode string
		s.Account, mode, ok3 = strings.Cut(to, ":")
		s.Live = mode == "live"
		if !ok || !ok2 || !ok3 || s.Address == "" || mode != "live" && mode != "test" {
			return nil, fmt.Errorf("source %q: use broker/address=acct_…:live or :test", field)
		}
		all = append(all, s)
	}
	return all, nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}
