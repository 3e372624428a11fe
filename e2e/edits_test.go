package e2e

import (
	"flag"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/account"
)

var (
	editPairs     = flag.Int("edits.pairs", 50, "pairs of edits in TestCluster_edits, and five times as many as rotations beside edits")
	editPasswords = flag.Int("edits.passwords", 5, "rounds of TestCluster_passwordBesideDisable")
)

// both sends two requests at once.
func both(one, other func() answer) (a, b answer) {
	var wg sync.WaitGroup
	wg.Go(func() { a = one() })
	wg.Go(func() { b = other() })
	wg.Wait()
	return a, b
}

// TestCluster_edits edits one object through two nodes at once: no edit that was answered with
// 2xx is lost.
func TestCluster_edits(t *testing.T) {
	t.Parallel()
	f := newFleet(t, database(t).URL("postgres"), 2)
	asAdmin := []string{"Authorization", "Bearer " + adminKey}
	send := func(node int, method, path string, body any, header ...string) func() answer {
		return func() answer { return f.node(node).call(method, path, body, header...) }
	}
	lost := map[string]int{}
	check := func(what string, good bool) {
		if !good {
			lost[what]++
		}
	}

	e := f.node(0).register("https://example.com/hook").text("id")
	path := "/v1/webhooks/" + e
	other := f.node(0).must("POST", "/v1/accounts", object{"name": "before"}, asAdmin...).text("id")
	f.node(0).must("POST", "/v1/event_types", object{"name": "invoice.paid"})
	for i := range *editPairs {
		text := fmt.Sprint("round ", i)
		a, b := both(send(0, "PATCH", path, object{"description": text}), send(1, "PATCH", path, object{"max_concurrency": i + 1}))
		now := f.node(i%2).must("GET", path, nil)
		check("description", a.status == http.StatusOK && now.text("description") == text)
		check("max_concurrency", b.status == http.StatusOK && now["max_concurrency"] == float64(i+1))
		if i%5 != 0 {
			continue
		}
		// The current secret is the one in the response, even if its endpoint is disabled or its
		// headers are changed at the same time.
		a, b = both(send(0, "POST", path+"/rotate_secret", object{"expires_in": 0}), send(1, "PATCH", path, object{"headers": object{"X-Round": text}}))
		kept := f.node(i%2).must("POST", path+"/reveal_secret", object{})
		check("secret", a.status == http.StatusOK && b.status == http.StatusOK && kept.text("secret") == a.object.text("secret"))

		a, b = both(send(0, "POST", "/v1/accounts/"+other, object{"name": text}, asAdmin...), send(1, "POST", "/v1/accounts/"+other, object{"rate_limit": i + 1}, asAdmin...))
		now = f.node(i%2).must("GET", "/v1/accounts/"+other, nil, asAdmin...)
		check("account", a.status == http.StatusOK && b.status == http.StatusOK && now.text("name") == text && now["rate_limit"] == float64(i+1))

		a, b = both(send(0, "PATCH", "/v1/event_types/invoice.paid", object{"description": text}), send(1, "PATCH", "/v1/event_types/invoice.paid", object{"deprecated": i%2 == 0}))
		now = f.node(i%2).must("GET", "/v1/event_types/invoice.paid", nil)
		check("event type", a.status == http.StatusOK && b.status == http.StatusOK && now.text("description") == text && now["deprecated"] == (i%2 == 0))

		// Of two concurrent refunds of the remaining amount, one succeeds.
		payment := f.node(0).must("POST", "/v1/payments", object{"amount": 100, "currency": "usd",
			"payment_method": object{"type": "card", "card": object{"number": "4242424242424242", "exp_month": 12, "exp_year": time.Now().Year() + 1, "cvc": "123"}}}).text("id")
		a, b = both(send(0, "POST", "/v1/refunds", object{"payment_id": payment, "amount": 60}), send(1, "POST", "/v1/refunds", object{"payment_id": payment, "amount": 60}))
		now = f.node(i%2).must("GET", "/v1/payments/"+payment, nil)
		check("refund", a.status+b.status == http.StatusOK+http.StatusBadRequest && now["amount_refunded"] == float64(60))
	}
	// Many rotations beside edits of something else.
	var rotations, mismatches atomic.Int64
	for i := range *editPairs / 5 {
		a, _ := both(send(i%2, "POST", path+"/rotate_secret", object{"expires_in": 0}), send(1-i%2, "PATCH", path, object{"metadata": object{"n": fmt.Sprint(i)}}))
		rotations.Add(1)
		if kept := f.node(i%2).must("POST", path+"/reveal_secret", object{}).text("secret"); a.status != http.StatusOK || kept != a.object.text("secret") {
			mismatches.Add(1)
		}
	}
	f.stop()
	t.Logf("%d pairs of edits, %d rotations beside edits: %d of these lost; others lost: %v", *editPairs, rotations.Load()+int64((*editPairs+4)/5), mismatches.Load(), lost)
	if mismatches.Load() > 0 || len(lost) > 0 {
		t.Errorf("lost: %v, and %d secrets", lost, mismatches.Load())
	}
}

// TestCluster_passwordBesideDisable checks that a user who changes their password while an
// admin disables and demotes them stays disabled and demoted.
func TestCluster_passwordBesideDisable(t *testing.T) {
	t.Parallel()
	f := newFleet(t, database(t).URL("postgres"), 2)
	asAdmin := []string{"Authorization", "Bearer " + adminKey}
	const before, after = "correct horse battery", "staple correct horse"
	undone, changed := 0, 0
	for i := range *editPasswords {
		name := fmt.Sprint("user", i)
		u := f.node(0).must("POST", "/v1/users", object{"name": name, "role": "admin", "password": before}, asAdmin...).text("id")
		client, cookie := f.node(1).signIn(name, before)
		var wg sync.WaitGroup
		wg.Go(func() {
			resp, err := client.PostForm(f.node(1).base+"/admin/profile", url.Values{"form_token": {account.FormToken(cookie.Value)},
				"old_password": {before}, "password": {after}, "again": {after}})
			if err != nil {
				t.Error(err)
				return
			}
			_ = resp.Body.Close()
			if strings.Contains(resp.Request.URL.RawQuery, "done=") {
				changed++
			}
		})
		<-time.After(time.Duration(i%10) * 20 * time.Millisecond) // during the comparison and the hashing
		f.node(0).must("POST", "/v1/users/"+u, object{"role": "viewer", "disabled": true}, asAdmin...)
		wg.Wait()
		for _, now := range f.node(i%2).must("GET", "/v1/users", nil, asAdmin...).list() {
			if now.text("id") == u && (now.text("role") != "viewer" || now["disabled"] != true) {
				undone++
			}
		}
	}
	f.stop()
	t.Logf("%d rounds: enabled or promoted again %d; passwords changed before that %d", *editPasswords, undone, changed)
	if undone > 0 {
		t.Errorf("%d of %d users who were disabled are not", undone, *editPasswords)
	}
}

// TestCluster_oneKey sends one request with one idempotency key to two nodes at once: it has
// one effect, and both answer with its result, or one answers that the other is still running.
func TestCluster_oneKey(t *testing.T) {
	t.Parallel()
	f := newFleet(t, database(t).URL("postgres"), 2)
	asAdmin := []string{"Authorization", "Bearer " + adminKey}
	e := f.node(0).register("https://example.com/hook").text("id")
	answered := map[int]int{}
	for i := range 20 {
		for what, send := range map[string]func(node int, key string) answer{
			"an endpoint": func(node int, key string) answer {
				return f.node(node).call("POST", "/v1/webhooks", object{"url": fmt.Sprint("https://example.com/", i), "enabled_events": []string{"*"}}, "Idempotency-Key", key)
			},
			"an event type": func(node int, key string) answer {
				return f.node(node).call("POST", "/v1/event_types", object{"name": fmt.Sprint("round.n", i)}, "Idempotency-Key", key)
			},
			"an account": func(node int, key string) answer {
				return f.node(node).call("POST", "/v1/accounts", object{"name": fmt.Sprint("account ", i)}, append([]string{"Idempotency-Key", key}, asAdmin...)...)
			},
			"a rotation": func(node int, key string) answer {
				return f.node(node).call("POST", "/v1/webhooks/"+e+"/rotate_secret", object{"expires_in": 0}, "Idempotency-Key", key)
			},
		} {
			key := fmt.Sprint(what, " ", i)
			a, b := both(func() answer { return send(0, key) }, func() answer { return send(1, key) })
			answered[a.status]++
			answered[b.status]++
			switch {
			case a.status == http.StatusOK && b.status == http.StatusOK && a.body == b.body:
			case a.status == http.StatusOK && b.status == http.StatusConflict, a.status == http.StatusConflict && b.status == http.StatusOK:
			default:
				t.Errorf("%s: %d %s and %d %s", key, a.status, a.body, b.status, b.body)
			}
			if again := send(i%2, key); again.status != http.StatusOK || again.body != a.body && again.body != b.body {
				t.Errorf("%s, repeated: %d %s", key, again.status, again.body)
			}
		}
	}
	if list := f.node(0).must("GET", "/v1/webhooks?limit=100", nil)["data"].([]any); len(list) != 21 {
		t.Errorf("%d endpoints, want 21", len(list))
	}
	t.Logf("answers by status: %v", answered)
}
