package e2e

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// document returns the API's documentation, from which the product was built.
func document(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile("../docs/creating-a-webhook.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// block returns the n-th code block of a language in the document.
func block(t testing.TB, language string, n int) string {
	t.Helper()
	all := regexp.MustCompile("(?s)```"+language+"\n(.*?)```").FindAllStringSubmatch(document(t), -1)
	if len(all) <= n {
		t.Fatalf("the document has %d blocks of %s", len(all), language)
	}
	return all[n][1]
}

// The request in the documentation works verbatim except for the host, and gets the response in
// the documentation: the same fields in the same order.
func TestSeed_request(t *testing.T) {
	t.Parallel()
	s := serve(t, "")
	const host = "https://sandbox-api.payment.com"
	curl := block(t, "bash", 0)
	if !strings.Contains(curl, host) || !strings.Contains(curl, testKey) {
		t.Fatalf("the document's request has changed:\n%s", curl)
	}
	cmd := exec.Command("bash", "-c", strings.Replace(curl, host, s.base, 1))
	cmd.Env = environment()
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	want := keys(t, block(t, "json", 0))
	got := keys(t, string(out))
	if len(got) < len(want) || strings.Join(got[:len(want)], " ") != strings.Join(want, " ") {
		t.Errorf("fields are %v, want %v first", got, want)
	}
	var e, doc struct {
		ID, Object, URL, Status, Description, Secret string
		EnabledEvents                                []string `json:"enabled_events"`
		Created                                      int64
	}
	if err := json.Unmarshal(out, &e); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(block(t, "json", 0)), &doc); err != nil {
		t.Fatal(err)
	}
	if e.Object != doc.Object || e.URL != doc.URL || e.Status != doc.Status || e.Description != doc.Description ||
		fmt.Sprint(e.EnabledEvents) != fmt.Sprint(doc.EnabledEvents) {
		t.Errorf("got %+v, want %+v", e, doc)
	}
	if !strings.HasPrefix(e.ID, "we_") || len(e.ID) < len("we_")+16 || !strings.HasPrefix(e.Secret, "whsec_") || e.Created < 1699564800 {
		t.Errorf("id %q, secret of %d characters, created %d", e.ID, len(e.Secret), e.Created)
	}
}

// keys returns the names of an object's members in order.
func keys(t testing.TB, text string) (names []string) {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(text))
	if tok, err := dec.Token(); err != nil || tok != json.Delim('{') {
		t.Fatalf("not an object: %s", text)
	}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, name.(string))
		var skip json.RawMessage
		if err := dec.Decode(&skip); err != nil {
			t.Fatal(err)
		}
	}
	return names
}

// oddObjects are payloads that JSON.parse and JSON.stringify change unless the sender
// normalizes them.
var oddObjects = []string{
	`{"b":1,"10":2,"2":3,"01":4,"-1":5,"4294967295":6,"4294967294":7}`,
	`{"nested":{"9":{"z":1,"0":2},"a":[{"1":1,"0":0}]},"3":[]}`,
	`{"n":[1.0,1.50,1e3,1E21,0.0000001,-0,-0.0,0.30000000000000004,5e-324,100000000000000000000,9007199254740992]}`,
	`{"s":"\u0041\u00e9\/\u003c\u003e\u0026\u007f\u2028\u2029\u000a\u0008\u001F\ud83d\ude00 \"quoted\" \\ back"}`,
	`{"":"empty key","é":"ü","日本":"語","😀":"🎉","\u0000":"nul"}`,
	`{"html":"<script>alert('&')</script>","toJSON":1,"hasOwnProperty":2,"constructor":"x","length":0}`,
	`{"amount":2999,"big":"9007199254740993","deep":[[[[[[[[[[{"1":1,"0":[]}]]]]]]]]]],"null":null,"t":true,"f":false}`,
	` { "spaces" : [ 1 , 2 ] } `,
}

func TestSeed_receivers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	code := block(t, "javascript", 0)
	verify, _, found := strings.Cut(code, "// In your webhook handler")
	if !found {
		t.Fatal("the document's receiver has changed")
	}
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join("node", name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	for _, receiver := range []struct{ name, code string }{
		{"Express, verbatim", read("express-prelude.js") + code + read("express-postlude.js")},
		{"Fastify", verify + read("fastify-handler.js")},
	} {
		t.Run(receiver.name, func(t *testing.T) {
			file := filepath.Join(dir, strings.Fields(receiver.name)[0]+".js")
			if err := os.WriteFile(file, []byte(receiver.code), 0o600); err != nil {
				t.Fatal(err)
			}
			app := node(t, nil, file)
			target := "http://127.0.0.1:" + app.out.await(t, `ready (\d+)`)[1] + "/webhooks/payment"
			s := serve(t, "", "--test-schedule", "")
			secret := s.register(target).text("secret")
			if _, err := fmt.Fprintln(app.in, secret); err != nil {
				t.Fatal(err)
			}
			app.out.await(t, "secret set")

			var ids []string
			// The documentation's payload, in the form in which a sender would have it.
			ids = append(ids, s.must("POST", "/v1/events", block(t, "json", 1)).text("id"))
			if ids[0] != "evt_1234567890abcdef" {
				t.Errorf("id = %q, want the sender's", ids[0])
			}
			for _, odd := range oddObjects {
				ids = append(ids, s.must("POST", "/v1/events", `{"type":"payment.failed","data":{"object":`+odd+`}}`).text("id"))
			}
			for _, id := range ids {
				for _, d := range s.settled(id) {
					a := s.must("GET", "/v1/deliveries/"+d.text("id")+"/attempts", nil).list()
					if d.text("status") != "succeeded" || len(a) != 1 || a[0].text("response_body") != "Webhook received" {
						t.Errorf("%s: %v, attempts %v", id, d, a)
					}
				}
			}
			app.out.await(t, "Received event: payment.succeeded")
			app.out.await(t, "Received event: payment.failed")

			for _, id := range ids {
				again := s.must("POST", "/v1/events/"+id+"/resend", nil).list()
				d := s.settled(id)[0]
				a := s.must("GET", "/v1/deliveries/"+again[0].text("id")+"/attempts", nil).list()
				if d.text("status") != "succeeded" || len(a) != 2 || a[0].text("response_body") != "Event already processed" {
					t.Errorf("%s, resent: %v, attempts %v", id, d, a)
				}
			}

			const sent = `{"id":"evt_direct","type":"payment.failed"}`
			for _, tt := range []struct {
				name, body, signature string
				want                  int
			}{
				// Without the first one, the others would not prove anything.
				{"as signed", sent, signature(secret, sent), http.StatusOK},
				{"tampered body", strings.Replace(sent, "failed", "passed", 1), signature(secret, sent), http.StatusUnauthorized},
				{"tampered signature", sent, tampered(signature(secret, sent)), http.StatusUnauthorized},
				{"other secret", sent, signature(secret+"x", sent), http.StatusUnauthorized},
			} {
				req, err := http.NewRequest(http.MethodPost, target, strings.NewReader(tt.body))
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Content-Type", "application/json")
				req.Header.Set("Payment-Signature", tt.signature)
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				_ = resp.Body.Close()
				if resp.StatusCode != tt.want {
					t.Errorf("%s: %d, want %d", tt.name, resp.StatusCode, tt.want)
				}
			}
		})
	}
}

// signature computes a signature as the document says, without the server's own code.
func signature(secret, body string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(body))
	return hex.EncodeToString(mac.Sum(nil))
}

// tampered changes the last digit.
func tampered(signature string) string {
	last := "0"
	if strings.HasSuffix(signature, last) {
		last = "1"
	}
	return signature[:len(signature)-1] + last
}

// An event that a receiver of the documentation's kind could not verify is refused, and the
// error names its position.
func TestSeed_refuses(t *testing.T) {
	t.Parallel()
	s := serve(t, "")
	for _, tt := range []struct{ name, object, param string }{
		{"integer beyond 2^53", `{"a":[{"n":9007199254740993}]}`, "data.object.a[0].n"},
		{"number beyond a double", `{"n":1e400}`, "data.object.n"},
		{"duplicate key", `{"n":1,"n":2}`, "data.object.n"},
		{"lone surrogate", `{"s":"\ud800"}`, "data.object.s"},
		{"__proto__", `{"__proto__":{"a":1}}`, "data.object.__proto__"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := s.call("POST", "/v1/events", `{"type":"payment.failed","data":{"object":`+tt.object+`}}`)
			if a.status != 400 || a.err("type") != "invalid_request_error" || a.err("param") != tt.param {
				t.Errorf("%d %s, want 400 for %q", a.status, a.body, tt.param)
			}
		})
	}
	if n := len(s.must("GET", "/v1/events", nil).list()); n != 0 {
		t.Errorf("%d refused events were stored", n)
	}
}

func TestLibraries_node(t *testing.T) {
	t.Parallel()
	app := node(t, nil, "node/libraries.mjs")
	s := serve(t, "", "--test-schedule", "")
	secret := s.register("http://127.0.0.1:" + app.out.await(t, `ready (\d+)`)[1] + "/").text("secret")
	if _, err := fmt.Fprintln(app.in, secret); err != nil {
		t.Fatal(err)
	}
	app.out.await(t, "secret set")
	for _, odd := range oddObjects {
		id := s.must("POST", "/v1/events", `{"type":"payment.failed","data":{"object":`+odd+`}}`).text("id")
		for _, d := range s.settled(id) {
			if d.text("status") != "succeeded" {
				t.Errorf("%s: %v", odd, d)
			}
		}
	}
	if n := strings.Count(app.out.String(), "verified "); n != len(oddObjects) {
		t.Errorf("%d deliveries were verified, want %d", n, len(oddObjects))
	}
}

func TestStripeSDK(t *testing.T) {
	t.Parallel()
	s := serve(t, "")
	p := node(t, []string{"BASE=" + s.base, "KEY=" + testKey}, "node/stripe.mjs")
	if code := p.exit(); code != 0 || !strings.HasSuffix(strings.TrimSpace(p.out.String()), "ok") {
		t.Fatalf("exit code %d:\n%s", code, p.out)
	}
}
