package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Event is an event to send.
type Event struct {
	// Type is the event's type, such as "payment.succeeded".
	Type string
	// Object is the object that the event is about; it encodes as a JSON object.
	Object any
	// Data replaces Object if the event has more data: it encodes as a JSON object with a member
	// "object".
	Data any
	// Raw is bytes that endpoints with the payload format raw receive unchanged, and ContentType
	// their type: application/octet-stream if it is empty. An event with Raw needs neither Object
	// nor Data.
	Raw         []byte
	ContentType string
	// Headers are custom headers of the event's deliveries. The server refuses those that it or the
	// connection sets.
	Headers map[string]string
	// ID is letters, digits, underscores, hyphens and colons, such as a UUID. The server accepts an
	// id once, so sending an event again with its id creates no duplicate. An empty ID is replaced
	// with one of [NewID], which is used for all tries of one call.
	ID string
	// Created is the time of the event, in seconds. Zero: the time at which the server accepts it.
	Created time.Time
}

// wireEvent is an event in the API's form.
type wireEvent struct {
	ID      string          `json:"id,omitempty"`
	Type    string          `json:"type"`
	Created int64           `json:"created,omitempty"`
	Data    json.RawMessage `json:"data,omitempty"`

	Raw         *[]byte           `json:"raw,omitempty"` // as base64
	ContentType string            `json:"content_type,omitempty"`
	Headers     map[string]string `json:"headers,omitempty"`
}

// MarshalJSON writes the event in the API's form.
func (e Event) MarshalJSON() ([]byte, error) {
	data := e.Data
	w := wireEvent{ID: e.ID, Type: e.Type, ContentType: e.ContentType, Headers: e.Headers}
	switch {
	case e.Raw != nil:
		w.Raw = &e.Raw
	case e.ContentType != "":
		return nil, errors.New("an event has a ContentType only with Raw")
	}
	switch {
	case e.Object != nil && e.Data != nil:
		return nil, errors.New("an event has an Object or Data, not both")
	case e.Object != nil:
		data = struct {
			Object any `json:"object"`
		}{e.Object}
	case e.Data == nil && e.Raw == nil:
		return nil, errors.New("an event has an Object, Data or Raw")
	}
	if data != nil {
		raw, err := json.Marshal(data)
		if err != nil {
			return nil, err
		}
		w.Data = raw
	}
	if !e.Created.IsZero() {
		w.Created = e.Created.Unix()
	}
	return json.Marshal(w)
}

// UnmarshalJSON reads the output of MarshalJSON; the data of the event is in Data, as a
// [json.RawMessage].
func (e *Event) UnmarshalJSON(text []byte) error {
	var w wireEvent
	if err := json.Unmarshal(text, &w); err != nil {
		return err
	}
	*e = Event{ID: w.ID, Type: w.Type, ContentType: w.ContentType, Headers: w.Headers}
	if w.Data != nil {
		e.Data = w.Data
	}
	if w.Raw != nil {
		e.Raw = *w.Raw
	}
	if w.Created != 0 {
		e.Created = time.Unix(w.Created, 0)
	}
	return nil
}

// Result is the result of an event. Without an error, the event is on the server's disk.
type Result struct {
	ID   string
	Type string
	Err  error
}

// encode gives an event an id if it has none, and encodes it.
func encode(e Event) (id string, body []byte, err error) {
	e.ID = or(e.ID, NewID())
	body, err = json.Marshal(e)
	if err != nil {
		return e.ID, nil, fmt.Errorf("posthaste: encode event %s: %w", e.ID, err)
	}
	return e.ID, body, nil
}
