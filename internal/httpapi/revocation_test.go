package httpapi_test

import (
	"bufio"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/job"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// children contains the running operations of a key.
type children struct {
	w      *world
	portal string // token
	id     string // of the portal session
	job    job.Job
	ended  chan struct{} // closed when the tail ended
}

// leaveRunning creates a portal session and a job with a key, and tails the log with it.
func (w *world) leaveRunning(key string) *children {
	w.t.Helper()
	c := &children{w: w, ended: make(chan struct{})}
	p := w.must("POST", "/v1/portal_sessions", `{}`, with(key)...)
	c.id = p.text("id")
	c.portal = strings.Split(p.text("url"), "/")[4]
	call, err := w.service.Auth.Authenticate(w.t.Context(), key)
	if err != nil {
		w.t.Fatal(err)
	}
	c.job = job.Job{ID: w.service.IDs.New("job_"), Space: call.Space, State: job.Running, Created: start, Actor: call.Key.ID} // no worker runs it
	if err := w.store.CreateJob(w.t.Context(), &c.job, func([]job.Job) error { return nil }, store.Trail{}); err != nil {
		w.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(w.t.Context(), "GET", w.url+"/v1/logs/tail", nil)
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil || resp.StatusCode != http.StatusOK {
		w.t.Fatalf("tail: %v, %v", resp, err)
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Scan() // the tail is connected
	go func() {
		defer close(c.ended)
		defer func() { _ = resp.Body.Close() }()
		for lines.Scan() {
		}
	}()
	return c
}

func (c *children) opens() error {
	_, _, err := c.w.service.Auth.Session(c.w.t.Context(), c.portal)
	return err
}

func (c *children) state() job.State {
	c.w.t.Helper()
	r, err := c.w.store.Job(c.w.t.Context(), c.job.Space, c.job.ID)
	if err != nil {
		c.w.t.Fatal(err)
	}
	return r.State
}

// ends reports whether the tail ends soon.
func (c *children) ends() bool {
	select {
	case <-c.ended:
		return true
	case <-time.After(10 * time.Second):
		return false
	}
}

func (c *children) goesOn() bool {
	select {
	case <-c.ended:
		return false
	default:
		return c.opens() == nil && c.state() == job.Running
	}
}

// Revoking a key ends everything started with it, and nothing of other keys.
func TestRevokeKey_reachesChildren(t *testing.T) {
	w := newWorld(t)
	made := w.must("POST", "/v1/api_keys", `{"name":"to revoke"}`, w.asOperator()...)
	gone, kept := w.leaveRunning(made.text("secret")), w.leaveRunning(testKey)
	if !gone.goesOn() || !kept.goesOn() {
		t.Fatal("no job is running")
	}
	w.must("DELETE", "/v1/api_keys/"+made.text("id"), "", w.asOperator()...)
	if err := gone.opens(); !fault.Is(err, fault.Unauthenticated) {
		t.Errorf("its portal opens: %v", err)
	}
	if got := gone.state(); got != job.Canceled {
		t.Errorf("its job is %s", got)
	}
	if !gone.ends() {
		t.Error("its tail continues")
	}
	if !kept.goesOn() {
		t.Error("another key's children ended too")
	}
}

// Suspending an account refuses its keys and portals, ends their operations and holds its
// deliveries back; resuming restores all. Other accounts are not affected.
func TestSuspend_account(t *testing.T) {
	w := newWorld(t)
	e := w.register("payment.*")
	gone, kept := w.leaveRunning(testKey), w.leaveRunning(otherKey)
	account := "/v1/accounts/" + w.account.ID
	got := w.must("POST", account, `{"status":"suspended"}`, with(adminKey)...)
	if got.text("status") != "suspended" || got["suspended_at"] != float64(start.Unix()) {
		t.Errorf("suspended: %v", got)
	}
	for _, key := range []string{testKey, liveKey} {
		w.call("GET", "/v1/webhooks", "", with(key)...).check(refusal{http.StatusForbidden, "authorization_error", "account_suspended", ""})
		w.call("POST", "/v1/events", `{"type":"payment.a","data":{"object":{}}}`, with(key)...).check(refusal{http.StatusForbidden, "authorization_error", "account_suspended", ""})
	}
	if err := gone.opens(); !fault.Is(err, fault.Forbidden) {
		t.Errorf("its portal: %v", err)
	}
	if gone.state() != job.Canceled || !gone.ends() {
		t.Errorf("its job is %s, or its tail continues", gone.state())
	}
	sends := func() bool {
		for _, one := range endpointsOf(w) {
			if one.ID == e.text("id") {
				return one.Sends()
			}
		}
		return false
	}
	if sends() {
		t.Error("deliveries go on")
	}
	if err := w.service.Load(t.Context(), w.engine); err != nil || sends() {
		t.Errorf("deliveries go on after a start: %v", err)
	}
	if !kept.goesOn() {
		t.Error("another account's ended too")
	}
	w.must("GET", "/v1/webhooks", "", w.asOperator()...) // the operator has access
	w.must("POST", account, `{"status":"active"}`, with(adminKey)...)
	w.must("GET", "/v1/webhooks", "")
	if err := gone.opens(); err != nil || !sends() {
		t.Errorf("after resuming: the portal %v, deliveries go on: %v", err, sends())
	}
	w.call("POST", account, `{"status":"gone"}`, with(adminKey)...).check(refusal{http.StatusBadRequest, "invalid_request_error", "parameter_invalid", "status"})
	var did []string
	for _, entry := range w.must("GET", "/v1/audit_log", "", with(adminKey)...).list() {
		if entry.text("target") == w.account.ID {
			did = append(did, entry.text("action")+" "+entry.in("detail").text("old_status")+" "+entry.in("detail").text("new_status"))
		}
	}
	if len(did) < 2 || did[0] != "account.resumed suspended active" || did[1] != "account.suspended active suspended" {
		t.Errorf("the audit log says %q", did)
	}
}

// Portal sessions are listed without their URLs, and revoked with their operations.
func TestPortalSessions_areListedAndRevoked(t *testing.T) {
	w := newWorld(t)
	first, second := w.leaveRunning(testKey), w.leaveRunning(testKey)
	w.must("POST", "/v1/portal_sessions", `{}`, with(liveKey)...)
	w.must("POST", "/v1/portal_sessions", `{}`, with(otherKey)...)
	all := w.must("GET", "/v1/portal_sessions?limit=1", "")
	if got := all.list(); len(got) != 1 || got[0].text("id") != second.id || got[0]["url"] != nil || all["has_more"] != true || !strings.HasPrefix(got[0].text("created_by"), "key_") {
		t.Errorf("the list: %v", all)
	}
	inPortal := job.Job{ID: w.service.IDs.New("job_"), Space: first.job.Space, State: job.Running, Created: start, Actor: first.id}
	if err := w.store.CreateJob(t.Context(), &inPortal, func([]job.Job) error { return nil }, store.Trail{}); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{liveKey, otherKey} {
		w.call("DELETE", "/v1/portal_sessions/"+first.id, "", with(key)...).check(refusal{http.StatusNotFound, "not_found_error", "resource_missing", "id"})
	}
	w.must("DELETE", "/v1/portal_sessions/"+first.id, "")
	if first.opens() == nil || second.opens() != nil {
		t.Error("it opens, or another one does not")
	}
	first.job = inPortal
	if got := first.state(); got != job.Canceled {
		t.Errorf("the job that was started in it is %s", got)
	}
	w.pass(account.MaxPortalLife)
	if left := w.must("GET", "/v1/portal_sessions", "").list(); len(left) != 0 {
		t.Errorf("listed after they ended: %v", left)
	}
}

// A test key does not list live keys.
func TestListKeys_testKeysSeeTestKeys(t *testing.T) {
	w := newWorld(t)
	modes := func(header ...string) map[any]bool {
		seen := map[any]bool{}
		for _, k := range w.must("GET", "/v1/api_keys?limit=100", "", header...).list() {
			seen[k["livemode"]] = true
		}
		return seen
	}
	if seen := modes(); seen[true] || !seen[false] {
		t.Errorf("a test key lists modes %v", seen)
	}
	for _, header := range [][]string{with(liveKey), w.asOperator()} {
		if seen := modes(header...); !seen[true] || !seen[false] {
			t.Errorf("%v lists modes %v", header, seen)
		}
	}
}

func endpointsOf(w *world) (all []*endpoint.Registered) {
	w.service.Endpoints.Each(func(e *endpoint.Registered) { all = append(all, e) })
	return all
}
