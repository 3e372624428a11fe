package httpapi_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"
	"github.com/pb33f/libopenapi-validator/config"
	fails "github.com/pb33f/libopenapi-validator/errors"

	"github.com/posthaste-hq/posthaste/api"
)

// described validates requests and responses against the API's description. It is strict: a
// field of a response that is not described is an error.
var described = sync.OnceValues(func() (validator.Validator, error) {
	d, err := libopenapi.NewDocument(api.OpenAPI)
	if err != nil {
		return nil, err
	}
	v, errs := validator.NewValidator(d, config.WithStrictMode(), config.WithFormatAssertions(), config.WithURLEncodedBodyValidation(), config.WithScalarCoercion(),
		config.WithoutSecurityValidation(), config.WithRejectUndeclaredRequestBody(),
		// The introduction describes the headers of all requests and responses.
		config.WithStrictIgnoredHeadersExtra("Payment-Account", "Payment-Mode", "X-Content-Type-Options", "Cache-Control", "Stripe-Version",
			"X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"),
		// Objects with arbitrary names, deepObjects that the validator does not support, and ignored
		// keys.
		config.WithStrictIgnorePaths("$.body.schema.**", "$.body.samples[*].**", "$.body.data[*].schema.**", "$.body.data[*].samples[*].**", "$.body.data.**", "$.body.data[*].data.**", "$.body.events[*].data.**", "$.body.**metadata.**", "$.body.**headers.**",
			"$.body.**detail.**", "$.query**created**", "$.query.api_key", "$.cookies.**"))
	if len(errs) > 0 {
		return nil, fmt.Errorf("%v", errs)
	}
	return v, nil
})

// conform fails the test if a response is not described for the request, or if a request was
// accepted that the description forbids.
func conform(t testing.TB, req *http.Request, sent string, resp *http.Response, got string) {
	t.Helper()
	if underRace { // make test runs it both ways
		return
	}
	v, err := described()
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasPrefix(req.URL.Path, "/debug/") || strings.Contains(got, `"unrecognized_request_url"`) || resp.StatusCode == http.StatusMethodNotAllowed {
		return // there is no such operation
	}
	if rest, ok := strings.CutPrefix(req.URL.Path, "/v1/webhook_endpoints"); ok { // an alias, with the same description
		req = req.Clone(req.Context())
		req.URL.Path = "/v1/webhooks" + rest
	}
	req.Body, resp.Body = io.NopCloser(strings.NewReader(sent)), io.NopCloser(bytes.NewReader([]byte(got)))
	var problems []*fails.ValidationError
	if _, bad := v.ValidateHttpResponse(req, resp); bad != nil {
		problems = append(problems, bad...)
	}
	if resp.StatusCode < 300 && orderly(req, sent, got) {
		req.Body = io.NopCloser(strings.NewReader(sent))
		if _, bad := v.ValidateHttpRequestSync(req); bad != nil {
			problems = append(problems, bad...)
		}
	}
	for _, p := range problems {
		t.Errorf("%s %s: %d does not conform: %s: %s%s\nsent %.300s\ngot %.600s", req.Method, req.URL.Path, resp.StatusCode, p.Message, p.Reason, details(p), sent, got)
	}
}

// orderly reports whether the description covers a request. The server accepts more: bodies
// with a missing or wrong type, and batches of which it refuses a part.
func orderly(req *http.Request, sent, got string) bool {
	if req.URL.Path == "/v1/events/raw" { // its body is bytes, which the validator reads by their type
		return false
	}
	kind := req.Header.Get("Content-Type")
	switch {
	case sent != "" && kind == "", strings.HasSuffix(req.URL.Path, "/batch") && !strings.Contains(got, `"refused":0`):
		return false
	case strings.HasPrefix(kind, "application/x-www-form-urlencoded"):
		return !strings.HasPrefix(strings.TrimSpace(sent), "{") && !strings.Contains(sent, "[0]") // the validator takes it for an object
	}
	return true
}

func details(p *fails.ValidationError) string {
	var b strings.Builder
	for _, s := range p.SchemaValidationErrors {
		_, _ = fmt.Fprintf(&b, "\n  %s: %s", s.FieldPath, s.Reason)
	}
	return b.String()
}
