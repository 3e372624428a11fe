package relay

import (
	"bytes"
	"encoding/json"
	"testing"
)

// For any message of a listener: it is decoded or refused, and headers in it cannot damage
// those of the connection.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		`{"type":"result","id":1,"status":200,"header":{"A":"b"},"body":"ok"}`, `{"type":"webhook_response","webhook_conversation_id":"1","status":200,"http_headers":{"a":"b"},"body":"x"}`,
		`{"type":"webhook_response","webhook_conversation_id":"x"}`, `{"type":"event_ack"}`, `{}`, `[]`, `null`, `{"header":null,"id":1e99}`, "\xff",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		before := bytes.Clone(raw)
		for _, c := range []codec{ourCodec{}, stripeCodec{}} {
			m, err := c.decode(json.RawMessage(raw))
			if err != nil {
				continue
			}
			headerOf(m.Header)
			if text, err := json.Marshal(c.encode(m)); err != nil || !json.Valid(text) {
				t.Errorf("%q is read as %+v, which cannot be sent: %v", raw, m, err)
			}
		}
		if !bytes.Equal(before, raw) {
			t.Error("the message was changed")
		}
		eventType(raw)
		stripeDevice(string(raw))
		if n, err := number(string(raw)); err == nil && n < 0 {
			t.Errorf("%q is the number %d", raw, n)
		}
	})
}
