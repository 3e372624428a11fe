package httpapi_test

import (
	"context"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/service"
)

const day = 24 * time.Hour

// Expired objects are in no list; retained ones are complete, with the names of deleted
// objects.
func TestPurge_forgetsByAge(t *testing.T) {
	w := newWorld(t)
	keep := service.Retention{Events: 30 * day, Audit: 365 * day, Jobs: 60 * day}
	purge := func() {
		t.Helper()
		if err := w.service.Purge(context.Background(), keep); err != nil {
			t.Fatal(err)
		}
	}
	rows := func(table string, want int64) {
		t.Helper()
		n, err := w.store.Count(context.Background(), table)
		if err != nil {
			t.Fatal(err)
		}
		if n != want {
			t.Errorf("%d rows of %s, want %d", n, table, want)
		}
	}
	ended := func(job object) object {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); job.text("status") == "running" && time.Now().Before(deadline); {
			job = w.must("GET", "/v1/jobs/"+job.text("id"), "")
		}
		return job
	}
	e := w.register("payment.*")
	dlv := w.deliveryOf(w.send("payment.failed").text("id")).text("id")
	w.attempted(dlv, delivery.Attempt{Started: w.now(), Outcome: delivery.OutcomeSucceeded, StatusCode: 200})
	job := ended(w.must("POST", "/v1/deliveries/retry", `{"endpoint":"`+e.text("id")+`"}`))
	w.must("POST", "/v1/event_types", `{"name":"invoice.paid"}`, append(with(testKey), "Idempotency-Key", "k")...)
	w.must("DELETE", "/v1/event_types/invoice.paid", "")
	w.must("DELETE", "/v1/webhooks/"+e.text("id"), "")
	entries := len(w.must("GET", "/v1/audit_log", "").list())
	written, err := w.store.Count(context.Background(), "audit") // including those of other accounts
	if entries == 0 || err != nil {
		t.Fatal("nothing in the audit log", err)
	}

	purge()
	rows("endpoints", 1)
	rows("event_types", 1)
	w.pass(29 * day)
	purge()
	rows("event_types", 0)
	if d := w.must("GET", "/v1/deliveries/"+dlv, ""); d.text("endpoint") != e.text("id") {
		t.Errorf("a kept delivery to a deleted endpoint: %v", d)
	}

	w.pass(2 * day) // events are deleted, and the job still refers to the endpoint
	purge()
	rows("events", 0)
	rows("endpoints", 1)
	if j := w.must("GET", "/v1/jobs/"+job.text("id"), ""); j.text("endpoint") != e.text("id") {
		t.Errorf("a kept job: %v", j)
	}

	w.pass(30 * day)
	purge()
	rows("recoveries", 0)
	rows("endpoints", 0)
	w.call("GET", "/v1/jobs/"+job.text("id"), "").check(refusal{404, "not_found_error", "resource_missing", "id"})
	if n := len(w.must("GET", "/v1/audit_log", "").list()); n != entries {
		t.Errorf("%d audit entries are left of %d", n, entries)
	}

	w.pass(305 * day)
	purge()
	if left := w.must("GET", "/v1/audit_log", "").list(); len(left) != 0 {
		t.Errorf("audit entries after a year: %v", left)
	}
	for kind, want := range map[service.Kind]int{
		service.OldEvents: 1, service.OldAudit: int(written), service.OldJobs: 1, service.DeletedTypes: 1, service.DeletedEndpoints: 1, service.OldReceipts: 1,
	} {
		if w.gone[kind] != want {
			t.Errorf("counted %d %s, want %d", w.gone[kind], kind, want)
		}
	}
}

// A payment is retained from its last refund on, a product from its last subscription on.
func TestPurge_keepsReferencedObjects(t *testing.T) {
	w := newWorld(t)
	const card = `"payment_method":{"type":"card","card":{"number":"4242424242424242","exp_month":12,"exp_year":2035,"cvc":"123"}}`
	pay := func() string {
		t.Helper()
		return w.must("POST", "/v1/payments", `{"amount":2999,"currency":"usd",`+card+`}`).text("id")
	}
	idle, refunded := pay(), pay()
	product := w.must("POST", "/v1/products", `{"name":"Tea","price":300,"currency":"usd"}`).text("id")
	w.pass(60 * day)
	w.must("POST", "/v1/refunds", `{"payment_id":"`+refunded+`","amount":1}`)
	w.must("POST", "/v1/subscriptions", `{"product_id":"`+product+`"}`)
	w.pass(60 * day)
	if err := w.service.Purge(context.Background(), service.Retention{Sandbox: 90 * day}); err != nil {
		t.Fatal(err)
	}
	w.call("GET", "/v1/payments/"+idle, "").check(refusal{404, "not_found_error", "resource_missing", "id"})
	w.must("GET", "/v1/payments/"+refunded, "")
	w.must("GET", "/v1/products/"+product, "")
	if w.gone[service.OldSandbox] != 1 {
		t.Errorf("counted %d objects", w.gone[service.OldSandbox])
	}
}

func TestPurge_keepsForEver(t *testing.T) {
	w := newWorld(t)
	w.register("payment.*")
	w.must("DELETE", "/v1/webhooks/"+w.register("payment.*").text("id"), "")
	w.send("payment.failed")
	entries := len(w.must("GET", "/v1/audit_log", "").list())
	w.pass(10_000 * day)
	if err := w.service.Purge(context.Background(), service.Retention{}); err != nil {
		t.Fatal(err)
	}
	if n := len(w.must("GET", "/v1/audit_log", "").list()); n != entries || n == 0 {
		t.Errorf("%d audit entries are left of %d", n, entries)
	}
	if list := w.must("GET", "/v1/events", "").list(); len(list) != 1 {
		t.Errorf("events: %v", list)
	}
}

// The row that a deleted endpoint leaves for its deliveries contains none of its secrets, not
// even encrypted.
func TestDelete_takesTheSecretsAtOnce(t *testing.T) {
	w := newWorld(t)
	e := w.register("payment.*")
	sealed := func() (sizes []int) {
		t.Helper()
		for row, err := range w.store.Rows(context.Background(), "endpoints", []string{"sealed"}) {
			if err != nil {
				t.Fatal(err)
			}
			sizes = append(sizes, len(row[0].([]byte)))
		}
		return sizes
	}
	if got := sealed(); len(got) != 1 || got[0] == 0 {
		t.Fatalf("before: %v bytes", got)
	}
	w.must("DELETE", "/v1/webhooks/"+e.text("id"), "")
	if got := sealed(); len(got) != 1 || got[0] != 0 {
		t.Errorf("after: %v bytes", got)
	}
}
