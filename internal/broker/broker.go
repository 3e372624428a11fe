// Package broker owns what goes to and comes from message brokers: the one small
// interface that they all fit, endpoints that are addresses at a broker, and sources
// that events come from.
//
// A broker is named by the operator, who keeps its URL and credentials; endpoints and
// sources name it and an address there. What an address means is the broker's own: see
// its package. This package must not know SQL, HTTP handlers or any broker's protocol.
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

// Message is what goes to or comes from a broker.
type Message struct {
	ID     string            // unique; a broker that can drops what has one it has seen
	Time   time.Time         // when it was stored or created, the same in every redelivery; zero: unknown
	Header map[string]string // what an HTTP request would have
	Body   []byte
}

// Broker is a connection to a message broker, which reconnects when it is lost. It is safe for
// concurrent use.
type Broker interface {
	// Publish returns once the broker has stored the message, and says where that is.
	Publish(ctx context.Context, address string, m Message) (receipt string, err error)
	// Consume hands over messages of an address, several at a time, until ctx ends or the
	// connection breaks. A message is done with when take returns nil or [ErrRefused]; else
	// it comes again.
	Consume(ctx context.Context, address string, take func(context.Context, Message) error) error
	Close() error
}

// ErrRefused is why a message is never taken: it is none that could be.
var ErrRefused = errors.New("refused")

// AtOnce is how many messages of a source are taken at a time.
const AtOnce = 64

// Named is the brokers that the operator has named.
type Named map[string]Broker

// Spec is a broker as the operator names it.
type Spec struct {
	Name string
	URL  *url.URL // with credentials
}

// ParseSpecs reads "name=url" pairs, separated by white space. Its errors do not repeat
// the URLs, which may hold passwords.
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

// asciiHosts returns hosts, separated by commas and each with an optional port, in their
// ASCII form: the brokers' libraries look names up as they are given.
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

// SourceSpec is where events come from, and whose they become.
type SourceSpec struct {
	Broker, Address string
	Account         string // id
	Live            bool
}

// String returns the source as it is written.
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
