package event

import (
	"encoding/json"
	"fmt"
)

// TypeInfo describes an event type.
type TypeInfo struct {
	Name, Description string
}

// Catalogue lists the built-in types: those of the sandbox and those that the server itself
// announces.
func Catalogue() []TypeInfo {
	return []TypeInfo{
		{"payment.succeeded", "A payment succeeded."},
		{"payment.failed", "A payment was declined."},
		{"refund.created", "A refund was created."},
		{"subscription.created", "A shopper subscribed to a product."},
		{TypeEndpointFailing, "An endpoint keeps failing; its deliveries wait."},
		{TypeEndpointDisabled, "An endpoint was disabled, by a user or because of its failures."},
		{TypeEndpointEnabled, "An endpoint was enabled."},
		{TypeSecretRotated, "An endpoint has a new signing secret."},
		{TypeSecretDue, "An endpoint's signing secret is old and should be rotated."},
		{TypeEndpointTest, "A test event for an endpoint."},
		{TypeAttemptExhausted, "A delivery failed for good: no retries are left."},
	}
}

// Schema returns a JSON Schema (draft 2020-12) derived from the sample of type t: it contains
// the fields and their types.
func Schema(t string) []byte {
	var sample any
	body := NewBody("evt_1234567890abcdef", t, 1699564800, Sample(t, 1699564800))
	if err := json.Unmarshal(body, &sample); err != nil {
		panic(fmt.Sprintf("event: the sample of %q: %v", t, err))
	}
	root := schemaOf(sample)
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = t
	out, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		panic(err) // maps of strings
	}
	return out
}

func schemaOf(v any) map[string]any {
	switch v := v.(type) {
	case map[string]any:
		properties := map[string]any{}
		for name, field := range v {
			properties[name] = schemaOf(field)
		}
		return map[string]any{"type": "object", "properties": properties}
	case []any:
		out := map[string]any{"type": "array"}
		if len(v) > 0 {
			out["items"] = schemaOf(v[0])
		}
		return out
	case string:
		return map[string]any{"type": "string"}
	case float64:
		if v == float64(int64(v)) {
			return map[string]any{"type": "integer"}
		}
		return map[string]any{"type": "number"}
	case bool:
		return map[string]any{"type": "boolean"}
	}
	return map[string]any{}
}
