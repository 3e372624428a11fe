package httpapi_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
)

const eraseMarker = "marker-of-a-person"

// Erased data is in no response and in no file; the history is kept.
func TestEraseEvent(t *testing.T) {
	w := newWorld(t)
	e := w.register("payment.*")
	body := `{"type":"payment.failed","data":{"object":{"id":"pay_1","name":"` + eraseMarker + `"}}}`
	ev := w.must("POST", "/v1/events", body, key("k")...)
	id := ev.text("id")
	dlv := w.deliveryOf(id).text("id")
	w.attempted(dlv, delivery.Attempt{Started: w.now(), Outcome: delivery.OutcomeServerError, StatusCode: 500, URL: "https://example.com/hook", RequestHeader: "A: " + eraseMarker,
		ResponseHeader: "B: " + eraseMarker, ResponseBody: []byte(eraseMarker), Error: eraseMarker})
	w.must("POST", "/v1/events/"+id+"/retry", `webhook_endpoint=`+e.text("id"), append(key("retry"), "Content-Type", formType)...)
	w.must("POST", "/v1/webhooks/preview", `{"event":"`+id+`"}`, key("preview")...)
	if again := w.call("POST", "/v1/events", body, key("k")...); !strings.Contains(again.body, eraseMarker) || again.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("repeated before: %d %s", again.status, again.body)
	}
	w.engine.told()

	w.pass(time.Minute)
	erased := w.must("DELETE", "/v1/events/"+id, "")
	if woken, _ := w.engine.told(); len(woken) == 0 {
		t.Error("the lane was not notified")
	}
	want := float64(w.now().Unix())
	if erased["data"] != nil || erased["erased"] != want || erased["created"] != ev["created"] || erased.text("type") != "payment.failed" {
		t.Errorf("erased: %v", erased)
	}
	w.pass(time.Minute)
	if again := w.must("DELETE", "/v1/events/"+id, ""); again["erased"] != want {
		t.Errorf("erased again: %v", again)
	}
	if d := w.must("GET", "/v1/deliveries/"+dlv, ""); d.text("status") != "canceled" || d["attempts"] != 1.0 || d["last_status_code"] != 500.0 {
		t.Errorf("delivery: %v", d)
	}
	at := w.must("GET", "/v1/deliveries/"+dlv+"/attempts", "").list()[0]
	if at["response_status_code"] != 500.0 || at["request_body_error"] == nil || at["request_body"] != nil {
		t.Errorf("attempt: %v", at)
	}
	for _, path := range []string{"/v1/events", "/v1/events/" + id, "/v1/events/" + id + "/deliveries", "/v1/deliveries", "/v1/audit_log"} {
		if a := w.call("GET", path, ""); a.status != 200 || !strings.Contains(a.body, id) || strings.Contains(a.body, eraseMarker) {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	if again := w.call("POST", "/v1/events", body, key("k")...); again.status != 200 || again.object()["erased"] != want || again.header.Get("Idempotent-Replayed") != "true" {
		t.Errorf("repeated after: %d %s", again.status, again.body)
	}
	refused := func(param string) refusal {
		return refusal{400, "invalid_request_error", "event_erased", param}
	}
	w.call("POST", "/v1/events/"+id+"/resend", "{}").check(refused("id"))
	w.call("POST", "/v1/deliveries/"+dlv+"/retry", "").check(refused("id"))
	w.call("POST", "/v1/webhooks/preview", `{"event":"`+id+`"}`).check(refused("event"))
	w.call("POST", "/v1/events/"+id+"/retry", `webhook_endpoint=`+e.text("id"), append(key("retry"), "Content-Type", formType)...).check(refused("Idempotency-Key"))

	if err := w.service.FinishErasures(context.Background()); err != nil {
		t.Fatal(err)
	}
	if n := inFiles(t, w.dir, eraseMarker); n != 0 {
		t.Errorf("the marker is found %d times", n)
	}
}

// An id that the sender chose stays taken, so that the event is not sent twice.
func TestEraseEvent_customID(t *testing.T) {
	w := newWorld(t)
	body := `{"id":"evt_takentakentaken0","type":"a","data":{"object":{}}}`
	w.must("POST", "/v1/events", body)
	w.must("DELETE", "/v1/events/evt_takentakentaken0", "")
	w.call("POST", "/v1/events", body).check(refusal{400, "invalid_request_error", "event_erased", "id"})
}

// A job resends nothing of an erased event.
func TestEraseEvent_jobs(t *testing.T) {
	w := newWorld(t)
	e := w.register("payment.*")
	id := w.send("payment.failed").text("id")
	w.attempted(w.deliveryOf(id).text("id"), delivery.Attempt{Started: w.now(), Outcome: delivery.OutcomeGone, StatusCode: 410})
	w.must("DELETE", "/v1/events/"+id, "")
	for _, start := range []struct{ path, body string }{{"/v1/deliveries/retry", `{"all":true}`}, {"/v1/webhooks/" + e.text("id") + "/recover", `{"since":0,"include_missed":true}`}} {
		job := w.must("POST", start.path, start.body)
		for deadline := time.Now().Add(2 * time.Minute); job.text("status") == "running" && time.Now().Before(deadline); {
			w.pass(time.Second) // until all events being accepted are stored
			job = w.must("GET", "/v1/jobs/"+job.text("id"), "")
		}
		if job.text("status") != "succeeded" || job["requeued"] != 0.0 {
			t.Errorf("%v", job)
		}
	}
	if d := w.deliveryOf(id); d.text("status") != "failed" {
		t.Errorf("%v", d)
	}
}

// A deleted account stops at once, can be restored, and is erased after the grace period.
func TestDeleteAccount(t *testing.T) {
	w := newWorld(t)
	w.service.AccountGrace = 24 * time.Hour
	ctx, path := context.Background(), "/v1/accounts/"+w.account.ID
	w.register("payment.*")
	body := `{"type":"payment.failed","data":{"object":{"name":"` + eraseMarker + `"}}}`
	id := w.must("POST", "/v1/events", body).text("id")
	w.must("POST", "/v1/event_types", `{"name":"invoice.paid","description":"`+eraseMarker+`"}`)
	w.must("POST", "/v1/webhooks", `{"url":"https://example.com/`+eraseMarker+`","enabled_events":["*"],"description":"`+eraseMarker+`"}`)
	w.must("POST", "/v1/portal_sessions", "{}")

	deleted := w.must("DELETE", path, "", with(adminKey)...)
	if deleted.text("status") != "deleted" || deleted["erase_at"] != float64(w.now().Add(24*time.Hour).Unix()) || deleted["suspended_at"] != float64(w.now().Unix()) {
		t.Errorf("deleted: %v", deleted)
	}
	w.call("GET", "/v1/events", "").check(refusal{403, "authorization_error", "account_suspended", ""})
	if w.service.Endpoints.Get(1).Sends() {
		t.Error("its endpoint is sent to")
	}
	w.pass(23 * time.Hour)
	if err := w.service.FinishErasures(ctx); err != nil {
		t.Fatal(err)
	}
	if again := w.must("DELETE", path, "", with(adminKey)...); again["erase_at"] != deleted["erase_at"] {
		t.Errorf("deleted again: %v", again)
	}
	if restored := w.must("POST", path, `{"status":"active"}`, with(adminKey)...); restored.text("status") != "active" || restored["erase_at"] != nil {
		t.Errorf("restored: %v", restored)
	}
	w.must("GET", "/v1/events/"+id, "")

	w.must("DELETE", path, "", with(adminKey)...)
	w.pass(25 * time.Hour)
	if err := w.service.FinishErasures(ctx); err != nil {
		t.Fatal(err)
	}
	erased := w.must("GET", path, "", with(adminKey)...)
	if erased.text("status") != "erased" || erased.text("name") != "" || erased["erased"] != float64(w.now().Unix()) {
		t.Errorf("erased: %v", erased)
	}
	w.call("POST", path, `{"status":"active"}`, with(adminKey)...).check(refusal{400, "invalid_request_error", "account_erased", "id"})
	w.call("GET", "/v1/events", "", w.asOperator()...).check(refusal{404, "not_found_error", "resource_missing", "Payment-Account"})
	w.call("GET", "/v1/events", "").check(refusal{401, "authentication_error", "api_key_revoked", ""})

	// The erasure is interrupted, and continues later.
	w.pass(time.Hour)
	if err := w.service.Load(ctx, w.engine); err != nil {
		t.Fatal(err)
	}
	if err := w.service.FinishErasures(ctx); err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{"events", "deliveries", "attempts", "receipts", "endpoints", "event_types", "sessions", "statistics", "erasures"} {
		if n, err := w.store.Count(ctx, table); err != nil || n != 0 {
			t.Errorf("%d rows of %s are left, %v", n, table, err)
		}
	}
	if n, err := w.store.Count(ctx, "api_keys"); err != nil || n != 2 { // the operator's and the other account's
		t.Errorf("%d keys are left, %v", n, err)
	}
	if n := inFiles(t, w.dir, eraseMarker); n != 0 {
		t.Errorf("the marker is found %d times", n)
	}
	if check, err := w.store.VerifyAudit(ctx); err != nil || len(check.Problems) > 0 {
		t.Errorf("audit log: %v, %v", check.Problems, err)
	}
}

// inFiles counts the occurrences of a text in the files of a directory.
func inFiles(t *testing.T, dir, text string) (n int) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) < 2 {
		t.Fatal(files, err)
	}
	for _, name := range files {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		n += strings.Count(string(content), text)
	}
	return n
}

// All events with one value of a searchable key are erased by a job, and no others.
func TestEraseEvents(t *testing.T) {
	w := newWorld(t)
	w.register("payment.*")
	send := func(name string) string {
		return w.must("POST", "/v1/events", `{"type":"payment.failed","data":{"object":{"id":"`+name+`"}}}`).text("id")
	}
	mine, other := []string{}, send("another")
	for range 60 { // more than a slice
		mine = append(mine, send(eraseMarker))
	}
	w.call("POST", "/v1/events/erase", `{}`).check(refusal{400, "invalid_request_error", "parameter_missing", "key"})
	w.call("POST", "/v1/events/erase", `{"key":"data.object.id"}`).check(refusal{400, "invalid_request_error", "parameter_invalid", "value"})
	w.call("POST", "/v1/events/erase", `{"key":"data.object.name","value":"x"}`).check(refusal{400, "invalid_request_error", "search_key_undeclared", "key"})
	job := w.must("POST", "/v1/events/erase", `{"object_id":"`+eraseMarker+`"}`)
	if job.text("type") != "erasure" || job.text("key") != "data.object.id" || job["total"] != 60.0 {
		t.Errorf("%v", job)
	}
	for deadline := time.Now().Add(2 * time.Minute); job.text("status") == "running" && time.Now().Before(deadline); {
		w.pass(time.Second) // until all events being accepted are stored
		job = w.must("GET", "/v1/jobs/"+job.text("id"), "")
	}
	if job.text("status") != "succeeded" || job["scanned"] != 60.0 {
		t.Errorf("%v", job)
	}
	for _, id := range mine {
		if e := w.must("GET", "/v1/events/"+id, ""); e["data"] != nil || e["erased"] == nil {
			t.Errorf("%v", e)
		}
	}
	if e := w.must("GET", "/v1/events/"+other, ""); e["data"] == nil {
		t.Errorf("another event: %v", e)
	}
	if n := len(w.must("GET", "/v1/audit_log?action=event.erased&limit=100", "").list()); n != 60 {
		t.Errorf("the audit log has %d erasures", n)
	}
	if err := w.service.FinishErasures(context.Background()); err != nil {
		t.Fatal(err)
	}
	if n := inFiles(t, w.dir, eraseMarker); n != 0 {
		t.Errorf("the marker is found %d times", n)
	}
}
