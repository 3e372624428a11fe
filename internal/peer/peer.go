// Package peer owns imports from other webhook servers: it reads the responses of their APIs
// and returns the endpoints that can be registered here, and the reason for each setting that
// cannot be imported.
//
// It does no I/O. Its texts about an endpoint never contain a credential.
package peer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/signature"
)

// Origin is the metadata key of an imported endpoint, by which a second import recognizes it.
const Origin = "imported_from"

// signatureHeader is the default brand's; a server with another brand refuses its own.
const signatureHeader = "Payment-Signature"

// maxExport bounds the size of an export: it describes endpoints, not events.
const maxExport = 64 << 20

// Endpoint is one endpoint of an export, as it can be registered here.
type Endpoint struct {
	ID          string // at the peer
	URL         string
	Description string
	Events      []string
	Secret      string // empty: the server generates one
	Scheme      string // the peer's signature scheme; empty: the default of this server
	Headers     map[string]string
	Basic       *Basic
	OAuth       *OAuth
	Rate        float64 // per second; 0: no limit
	Timeout     int     // seconds; 0 is the default
	Disabled    bool
	Metadata    map[string]string

	Skip  string // why it cannot be registered; empty if it can
	Lost  []Loss // not empty only if Disabled, because the receiver would notice the difference
	Notes []Loss // settings that are not imported and do not affect deliveries
}

// Basic are the credentials of HTTP Basic.
type Basic struct{ User, Password string }

// OAuth are the client credentials of OAuth 2.0.
type OAuth struct{ TokenURL, ClientID, ClientSecret, Scope string }

// Loss is a setting that is not imported.
type Loss struct {
	Field string `json:"field"`
	Why   string `json:"why"`
}

// format reads one item of an export. It returns nil for items that are not endpoints; it may
// keep them for later items.
type format interface {
	item(raw json.RawMessage) (*Endpoint, error)
	finish(all []*Endpoint)
}

// Peers returns the names of the supported servers.
func Peers() []string { return []string{"svix", "outpost", "convoy", "stripe"} }

func formatOf(from string) (format, bool) {
	switch from {
	case "svix":
		return svix{}, true
	case "outpost":
		return outpost{}, true
	case "convoy":
		return &convoy{events: map[string][]string{}, filtered: map[string]bool{}}, true
	case "stripe":
		return stripe{}, true
	}
	return nil, false
}

// Read reads an export: one or more JSON documents, such as the pages of a list, in order. A
// duplicated endpoint is returned once.
func Read(from string, r io.Reader) ([]*Endpoint, error) {
	f, ok := formatOf(from)
	if !ok {
		return nil, fmt.Errorf("unknown format %q; use one of %s", from, strings.Join(Peers(), ", "))
	}
	limited := &io.LimitedReader{R: r, N: maxExport + 1}
	var all []*Endpoint
	seen := map[string]bool{}
	n := 0
	for dec := json.NewDecoder(limited); ; {
		var doc json.RawMessage
		err := dec.Decode(&doc)
		switch {
		case limited.N <= 0:
			return nil, fmt.Errorf("the export is longer than %d MiB", maxExport>>20)
		case errors.Is(err, io.EOF):
			f.finish(all)
			for _, e := range all {
				e.fit()
			}
			return all, nil
		case err != nil:
			return nil, fmt.Errorf("the export is not JSON: %w", err)
		}
		items, err := itemsOf(doc)
		if err != nil {
			return nil, err
		}
		for _, raw := range items {
			n++
			e, err := f.item(raw)
			if err != nil {
				return nil, fmt.Errorf("item %d of the export: %w", n, plain(err))
			}
			if e == nil || e.ID != "" && seen[e.ID] {
				continue
			}
			seen[e.ID] = true
			all = append(all, e)
		}
	}
}

// itemsOf returns the list in a document: the document itself, or the value of "data",
// "content" or both. An object without a list is an item itself.
func itemsOf(doc json.RawMessage) ([]json.RawMessage, error) {
	var list []json.RawMessage
	if json.Unmarshal(doc, &list) == nil && list != nil {
		return list, nil
	}
	var o map[string]json.RawMessage
	if json.Unmarshal(doc, &o) != nil || o == nil {
		return nil, errors.New("the export is neither a list nor an object")
	}
	for _, name := range []string{"data", "content"} {
		if inner, ok := o[name]; ok {
			return itemsOf(inner)
		}
	}
	return []json.RawMessage{doc}, nil
}

// plain returns an error of the decoder without the value that it quotes, which may be a
// secret.
func plain(err error) error {
	var kind *json.UnmarshalTypeError
	if errors.As(err, &kind) {
		return fmt.Errorf("%q has a value that the other server does not write", kind.Field)
	}
	return err
}

// lose notes that the endpoint would receive different events or requests than from the peer.
// It is registered as disabled until a user has checked it.
func (e *Endpoint) lose(field, why string) {
	e.Disabled = true
	e.Lost = append(e.Lost, Loss{field, why})
}

// note notes a setting that is not imported and does not affect deliveries.
func (e *Endpoint) note(field, why string) { e.Notes = append(e.Notes, Loss{field, why}) }

// sign keeps the peer's signature scheme, and the secret if it is valid for that scheme.
func (e *Endpoint) sign(scheme, secret, missing string) {
	p := signature.Named(scheme)
	e.Scheme = scheme
	kept, ok := p.Secret(secret)
	switch {
	case secret == "":
		e.lose("secret", missing+"; a new one is generated")
	case ok:
		e.Secret = kept
	default:
		e.lose("secret", "it must be "+p.SecretRule()+"; a new one is generated")
	}
}

// fit removes settings that this server does not support, and notes them.
func (e *Endpoint) fit() {
	e.fitEvents()
	for _, name := range slices.Sorted(maps.Keys(e.Headers)) {
		if _, ok := endpoint.HeaderName(name, signatureHeader); !ok || signature.Named(e.Scheme).Sets(name) {
			e.lose("header "+short(name), "the server or the connection sets it, or it is not a valid header")
			delete(e.Headers, name)
		} else if !endpoint.HeaderValue(e.Headers[name]) {
			e.lose("header "+short(name), "its value cannot be sent")
			delete(e.Headers, name)
		}
	}
	if len(e.Headers) > endpoint.MaxHeaders {
		e.Skip = fmt.Sprintf("it has more than %d headers", endpoint.MaxHeaders)
	}
	if utf8.RuneCountInString(e.Description) > endpoint.MaxDescription {
		e.note("description", fmt.Sprintf("shortened to %d characters", endpoint.MaxDescription))
		e.Description = string([]rune(e.Description)[:endpoint.MaxDescription])
	}
	if e.Rate > endpoint.MaxRate {
		e.lose("rate limit", fmt.Sprintf("the maximum is %d per second; the endpoint has no limit now", endpoint.MaxRate))
		e.Rate = 0
	}
	if longest := int(endpoint.MaxTimeout / time.Second); e.Timeout > longest {
		e.lose("timeout", fmt.Sprintf("reduced to the maximum of %d seconds", longest))
		e.Timeout = longest
	}
	for _, key := range slices.Sorted(maps.Keys(e.Metadata)) {
		if key == Origin || key == "" || len(key) > endpoint.MaxMetadataKey || utf8.RuneCountInString(e.Metadata[key]) > endpoint.MaxMetadataValue || len(e.Metadata) >= endpoint.MaxMetadata {
			e.note("metadata "+short(key), "its key or value is too long, or there are too many")
			delete(e.Metadata, key)
		}
	}
	switch {
	case e.ID == "":
		e.Skip = "it has no id, which a second import needs to recognise it"
	case e.URL == "" && e.Skip == "":
		e.Skip = "it has no URL"
	}
}

func (e *Endpoint) fitEvents() {
	if e.Skip != "" {
		return
	}
	if len(e.Events) == 0 {
		e.Skip = "it subscribes to no event type"
		return
	}
	kept := e.Events[:0]
	for _, typ := range e.Events {
		if event.ValidPattern(typ) {
			kept = append(kept, typ)
		} else {
			e.lose("event type "+short(typ), "an event type must consist of "+event.TypeRule)
		}
	}
	e.Events = kept
	switch {
	case len(kept) == 0:
		e.Skip = "none of its event types is valid on this server"
	case len(kept) > endpoint.MaxEvents:
		e.Skip = fmt.Sprintf("it has more than %d event types; groups such as payment.* are one", endpoint.MaxEvents)
	}
}

// short returns a name of the export, shortened and printable.
func short(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if r := []rune(s); len(r) > 60 {
		return string(r[:60]) + "…"
	}
	return s
}
