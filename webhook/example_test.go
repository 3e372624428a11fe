package webhook_test

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/posthaste-hq/posthaste/webhook"
)

// The secret of the documentation; keep real ones out of source code.
const exampleSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

func ExampleSign() {
	fmt.Println(webhook.Sign(exampleSecret, []byte(`{"test": 2432232314}`)))
	// Output: 80ec8a89ce3cd22133a1066caecb4d04fea7467657c8514d717ec42c38a5c94c
}

func ExampleSignStandard() {
	signature, err := webhook.SignStandard(exampleSecret, "msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 0), []byte(`{"test": 2432232314}`))
	if err != nil {
		panic(err)
	}
	fmt.Println(signature)
	// Output: v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=
}

func ExampleParseSecret() {
	_, err := webhook.ParseSecret("a password")
	fmt.Println(errors.Is(err, webhook.ErrBadSecret))
	// Output: true
}

// A sender of many deliveries parses a secret once.
func ExampleSecret_SignStandard() {
	secret, err := webhook.ParseSecret(exampleSecret)
	if err != nil {
		panic(err)
	}
	body := []byte(`{"test": 2432232314}`)
	fmt.Println(secret.SignStandard("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body))
	// Output: v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=
}

func ExampleVerifier_Verify() {
	v, err := webhook.NewVerifier(exampleSecret)
	if err != nil {
		panic(err)
	}
	body := []byte(`{"id":"evt_1"}`)
	genuine := http.Header{"Payment-Signature": {webhook.Sign(exampleSecret, body)}}
	fmt.Println(v.Verify(genuine, body))
	fmt.Println(v.Verify(genuine, []byte(`{"id":"evt_2"}`)))
	fmt.Println(v.Verify(http.Header{}, body))
	// Output:
	// <nil>
	// webhook: no signature matches the body and the secrets
	// webhook: the request has no signature
}

// During a rotation, a receiver accepts signatures of both secrets.
func ExampleNewVerifier_rotation() {
	const newer = "whsec_b3RoZXJvdGhlcm90aGVyb3RoZXJvdGhlcm90aGVyMTI="
	v, err := webhook.NewVerifier(newer, exampleSecret)
	if err != nil {
		panic(err)
	}
	body := []byte(`{"id":"evt_1"}`)
	for _, secret := range []string{exampleSecret, newer} {
		fmt.Println(v.Verify(http.Header{"Payment-Signature": {webhook.Sign(secret, body)}}, body))
	}
	// Output:
	// <nil>
	// <nil>
}

func ExampleVerifier_Middleware() {
	v, err := webhook.NewVerifier(exampleSecret)
	if err != nil {
		panic(err)
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, "Try again", http.StatusInternalServerError)
			return
		}
		fmt.Printf("processing %s\n", body)
	})
	receiver := httptest.NewServer(v.Middleware(handler,
		webhook.WithSeen(webhook.NewMemory(7*24*time.Hour)),
		webhook.WithLogger(slog.New(slog.DiscardHandler)),
		webhook.WithAlert(10, func(refused int) { fmt.Println(refused, "deliveries refused") }),
	))
	defer receiver.Close()

	const body = `{"id":"evt_1"}`
	for _, signature := range []string{webhook.Sign(exampleSecret, []byte(body)), webhook.Sign(exampleSecret, []byte(body)), strings.Repeat("0", 64)} {
		r, err := http.NewRequest(http.MethodPost, receiver.URL, strings.NewReader(body))
		if err != nil {
			panic(err)
		}
		r.Header.Set("Payment-Signature", signature)
		answer, err := receiver.Client().Do(r)
		if err != nil {
			panic(err)
		}
		_ = answer.Body.Close()
		fmt.Println(answer.Status)
	}
	// Output:
	// processing {"id":"evt_1"}
	// 200 OK
	// 200 OK
	// 401 Unauthorized
}
