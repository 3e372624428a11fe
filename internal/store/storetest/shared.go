package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/job"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// RunShared runs the tests for lost edits, on two handles of one store that open returns. If a
// store has one handle only, both are the same.
func RunShared(t *testing.T, open func(t *testing.T) (one, other store.Store)) {
	for _, tt := range []struct {
		name string
		test func(*pair)
	}{
		{"Endpoint", testEndpointEdits},
		{"Account", testAccountEdits},
		{"Type", testTypeEdits},
		{"User", testUserEdits},
		{"User/LastAdmin", testLastAdmin},
		{"Key/LastOperator", testLastOperatorKey},
		{"Session", testSessionAndPassword},
		{"Job", testJobEdits},
		{"Job/Alone", testJobAlone},
		{"Sandbox", testSandboxEdits},
		{"Listener", testOneListener},
		{"CancelDelivery", testCancelAndSettle},
		{"Endpoint/Deleted", testEditsOfWhatIsDeleted},
		{"Room", testRoom},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			one, other := open(t)
			b := &bundle{T: t, Store: one, ctx: context.Background(), keys: event.NewKeys(time.Now, 0)}
			tt.test(&pair{bundle: b, stores: [2]store.Store{one, other}})
		})
	}
}

// pair is a bundle with two handles of its store.
type pair struct {
	*bundle
	stores [2]store.Store
}

const (
	editors = 8
	edits   = 25 // of each editor
)

// race runs do for each editor, on one handle and on the other.
func (p *pair) race(do func(editor int, s store.Store) error) {
	p.Helper()
	var wg sync.WaitGroup
	for i := range editors {
		wg.Go(func() {
			for range edits {
				if err := do(i, p.stores[i%2]); err != nil {
					p.Errorf("editor %d: %v", i, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func (p *pair) account() account.Account {
	a := account.Account{ID: event.FormatID("acct_", p.keys.Next(), 1), Created: time.UnixMilli(1700000000000)}
	p.ok(p.CreateAccount(p.ctx, &a, store.Trail{}))
	return a
}

// Each editor counts in its own part of the endpoint, and all count in a shared one: in
// encrypted and other parts, and in the list of secrets.
func testEndpointEdits(p *pair) {
	e := p.endpoint(mine)
	secrets := len(e.Secrets)
	p.race(func(i int, s store.Store) error {
		name := "X-" + strconv.Itoa(i)
		got, err := s.EditEndpoint(p.ctx, mine, e.ID, func(e *endpoint.Endpoint) (store.Trail, error) {
			e.Settings.Concurrency++
			count := func(m map[string]string) map[string]string {
				next := map[string]string{name: "0"}
				for k, v := range m {
					next[k] = v
				}
				n, err := strconv.Atoi(next[name])
				next[name] = strconv.Itoa(n + 1)
				p.ok(err)
				return next
			}
			switch i % 3 {
			case 0:
				e.Metadata = count(e.Metadata)
			case 1:
				e.Headers = count(e.Headers)
			default:
				e.Secrets = append(e.Secrets[:len(e.Secrets):len(e.Secrets)], endpoint.NewSecret(fmt.Sprint("whsk_", i, "_", len(e.Secrets)), now()))
			}
			return store.Trail{Audit: p.entry(mine, name, account.EndpointUpdated)}, nil
		})
		if err == nil && got.Revision <= e.Revision {
			return fmt.Errorf("revision %d after %d", got.Revision, e.Revision)
		}
		return err
	})
	got, err := p.Endpoint(p.ctx, mine, e.ID)
	p.ok(err)
	p.equal("edits of all", got.Settings.Concurrency, e.Settings.Concurrency+editors*edits)
	rotations := 0
	for i := range editors {
		name, want := "X-"+strconv.Itoa(i), strconv.Itoa(edits)
		switch i % 3 {
		case 0:
			p.equal("metadata", got.Metadata[name], want)
		case 1:
			p.equal("headers", got.Headers[name], want)
		default:
			rotations += edits
		}
		trails, _, err := p.ListAudit(p.ctx, account.AuditFilter{Space: mine, Object: name}, store.Page[string]{Limit: 100})
		p.ok(err)
		p.equal("trails", len(trails), edits)
	}
	p.equal("secrets", len(got.Secrets), secrets+rotations)
}

func testAccountEdits(p *pair) {
	a := p.account()
	p.race(func(i int, s store.Store) error {
		_, err := s.EditAccount(p.ctx, a.ID, func(a *account.Account) (store.Trail, error) {
			if i%2 == 0 {
				a.Name += "x"
				return store.Trail{}, nil
			}
			n := 1
			if a.RateLimit != nil {
				n = *a.RateLimit + 1
			}
			a.RateLimit = &n
			return store.Trail{}, nil
		})
		return err
	})
	got, err := p.Account(p.ctx, a.ID)
	p.ok(err)
	p.equal("name", len(got.Name), editors*edits/2)
	p.equal("limit", *got.RateLimit, editors*edits/2)
}

func testTypeEdits(p *pair) {
	d := event.Definition{Space: mine, Name: "a.b", Validation: event.ValidateOff, Created: now(), Updated: now()}
	p.ok(p.CreateType(p.ctx, &d, store.Trail{}))
	p.race(func(i int, s store.Store) error {
		_, err := s.EditType(p.ctx, mine, d.Name, func(d *event.Definition) (store.Trail, error) {
			if i%2 == 0 {
				d.Description += "x"
				return store.Trail{}, nil
			}
			d.Version++
			d.Schema = fmt.Appendf(nil, `{"minProperties":%d}`, d.Version)
			return store.Trail{}, nil
		})
		return err
	})
	got, err := p.Type(p.ctx, mine, d.Name)
	p.ok(err)
	p.equal("description", len(got.Description), editors*edits/2)
	p.equal("version", got.Version, editors*edits/2)
	versions, err := p.TypeVersions(p.ctx, d.No)
	p.ok(err)
	p.equal("schemas", len(versions), editors*edits/2)
	p.equal("schema", string(versions[0].Schema), string(got.Schema))
}

func testUserEdits(p *pair) {
	u := p.user("Ada")
	p.race(func(i int, s store.Store) error {
		_, err := s.EditUser(p.ctx, u.ID, account.Hash{}, func(u *account.User, _ []account.User) (store.Trail, error) {
			u.Password += "x"
			return store.Trail{}, nil
		})
		return err
	})
	got, err := p.User(p.ctx, u.ID)
	p.ok(err)
	p.equal("password", len(got.Password), len(u.Password)+editors*edits)
}

// If admins demote each other at the same time, one remains.
func testLastAdmin(p *pair) {
	var ids []string
	for i := range 2 {
		ids = append(ids, p.user(fmt.Sprint("admin", i)).ID)
	}
	last := errors.New("the last admin")
	role := func(s store.Store, id string, to account.UserRole) error {
		_, err := s.EditUser(p.ctx, id, account.Hash{}, func(u *account.User, others []account.User) (store.Trail, error) {
			if to != account.UserAdmin && others[0].Role != account.UserAdmin {
				return store.Trail{}, last
			}
			u.Role = to
			return store.Trail{}, nil
		})
		return err
	}
	for range edits {
		for _, id := range ids {
			p.ok(role(p.stores[0], id, account.UserAdmin))
		}
		var wg sync.WaitGroup
		var demoted atomic.Int64
		for i, id := range ids {
			wg.Go(func() {
				switch err := role(p.stores[i], id, account.UserViewer); {
				case err == nil:
					demoted.Add(1)
				case !errors.Is(err, last):
					p.Error(err)
				}
			})
		}
		wg.Wait()
		p.equal("demoted", demoted.Load(), 1)
	}
}

// Operator keys that are revoked at once leave one.
func testLastOperatorKey(p *pair) {
	for i := range edits {
		var ids []string
		for j := range 2 {
			k := account.Key{ID: fmt.Sprintf("key_%d_%d", i, j), Role: account.Operator, Hash: account.HashKey(fmt.Sprint("operator", i, j)), Created: now()}
			p.ok(p.stores[0].CreateKey(p.ctx, &k, store.Trail{}))
			ids = append(ids, k.ID)
		}
		if i > 0 { // the one that was left
			for _, k := range p.operatorKeys() {
				if !slices.Contains(ids, k) {
					p.ok(p.stores[0].RevokeKey(p.ctx, k, now(), store.Trail{}))
				}
			}
		}
		var wg sync.WaitGroup
		for j, id := range ids {
			wg.Go(func() {
				if err := p.stores[j].RevokeKey(p.ctx, id, now(), store.Trail{}); err != nil && !fault.Is(err, fault.Invalid) {
					p.Error(err)
				}
			})
		}
		wg.Wait()
		p.equal("operator keys that are left", len(p.operatorKeys()), 1)
	}
}

// operatorKeys returns the ids of the operator keys that are not revoked.
func (p *pair) operatorKeys() (ids []string) {
	keys, err := p.stores[0].AllKeys(p.ctx)
	p.ok(err)
	for _, k := range keys {
		if k.Role == account.Operator && k.Revoked.IsZero() {
			ids = append(ids, k.ID)
		}
	}
	return ids
}

// A session that begins with a password while another one is set ends with that change.
func testSessionAndPassword(p *pair) {
	u := p.user("Ada")
	for i := range edits {
		var wg sync.WaitGroup
		old := u.Password
		n := account.Session{Hash: account.HashKey(fmt.Sprint(i)), User: u.ID, Created: now(), Expires: now().Add(time.Hour)}
		wg.Go(func() {
			if err := p.stores[0].CreateSession(p.ctx, &n, old, store.Trail{}); err != nil && !fault.Is(err, fault.NotFound) {
				p.Error(err)
			}
		})
		wg.Go(func() {
			var err error
			if u, err = p.stores[1].EditUser(p.ctx, u.ID, account.Hash{}, func(u *account.User, _ []account.User) (store.Trail, error) {
				u.Password = fmt.Sprint("$", i)
				return store.Trail{}, nil
			}); err != nil {
				p.Error(err)
			}
		})
		wg.Wait()
		_, err := p.Session(p.ctx, n.Hash)
		p.code(err, fault.NotFound)
	}
}

// If several workers run a job, each slice is processed once, and an acknowledged cancellation
// ends it.
func testJobEdits(p *pair) {
	a := p.account()
	space := event.SpaceOf(a.No, false)
	r := job.Job{ID: event.FormatID("job_", p.keys.Next(), 1), Kind: job.BulkRetry, Space: space, State: job.Running, Created: now()}
	p.ok(p.CreateJob(p.ctx, &r, unopposed, store.Trail{}))
	var advanced, after atomic.Int64
	var ended atomic.Bool
	p.race(func(i int, s store.Store) error {
		if i == 0 {
			if advanced.Load() < 10 || ended.Load() {
				return nil
			}
			_, err := s.EditJob(p.ctx, space, r.ID, func(r *job.Job) (store.Trail, error) {
				r.State, r.Finished = job.Canceled, now()
				return store.Trail{}, nil
			})
			ended.Store(err == nil)
			return err
		}
		was, err := s.Job(p.ctx, space, r.ID)
		if err != nil {
			return err
		}
		over := ended.Load()
		next := was
		next.State = job.Running
		next.Cursor.Event++
		next.Scanned++
		switch err := s.AdvanceJob(p.ctx, &was, &next, nil, store.Trail{}); {
		case err == nil:
			advanced.Add(1)
			if over {
				after.Add(1)
			}
			return nil
		case fault.Is(err, fault.NotFound):
			return nil
		default:
			return err
		}
	})
	got, err := p.Job(p.ctx, space, r.ID)
	p.ok(err)
	p.equal("scanned", int64(got.Scanned), advanced.Load())
	p.equal("after its end", after.Load(), 0)
	if ended.Load() {
		p.equal("state", got.State, job.Canceled)
	}
}

// Of jobs that must not run at the same time, one starts.
func testJobAlone(p *pair) {
	a := p.account()
	space := event.SpaceOf(a.No, false)
	running := errors.New("another one runs")
	var begun atomic.Int64
	p.race(func(i int, s store.Store) error {
		r := job.Job{ID: event.FormatID("job_", p.keys.Next(), uint32(i)), Kind: job.BulkRetry, Space: space, State: job.Running, Created: now()}
		err := s.CreateJob(p.ctx, &r, func(others []job.Job) error {
			if len(others) > 0 {
				return running
			}
			return nil
		}, store.Trail{})
		if errors.Is(err, running) {
			return nil
		}
		begun.Add(1)
		return err
	})
	p.equal("begun", begun.Load(), 1)
}

func testSandboxEdits(p *pair) {
	const kind, id = "counter", "c_1"
	p.ok(p.PutSandbox(p.ctx, []store.SandboxObject{{Space: mine, Kind: kind, ID: id, Body: []byte("0"), Updated: now()}}, store.Trail{}))
	p.race(func(i int, s store.Store) error {
		for {
			o, err := s.SandboxObject(p.ctx, mine, kind, id)
			if err != nil {
				return err
			}
			n, err := strconv.Atoi(string(o.Body))
			if err != nil {
				return err
			}
			made := store.SandboxObject{Space: mine, Kind: "made", ID: fmt.Sprint(n), Parent: fmt.Sprint(i), Body: []byte("{}")}
			o.Was, o.Body = o.Body, strconv.AppendInt(nil, int64(n+1), 10)
			if err := s.PutSandbox(p.ctx, []store.SandboxObject{made, o}, store.Trail{}); !errors.Is(err, store.ErrRaced) {
				return err
			}
		}
	})
	o, err := p.SandboxObject(p.ctx, mine, kind, id)
	p.ok(err)
	p.equal("count", string(o.Body), strconv.Itoa(editors*edits))
	for i := range editors {
		all, _, err := p.ListSandbox(p.ctx, mine, "made", fmt.Sprint(i), store.Page[string]{Limit: 1000})
		p.ok(err)
		p.equal("made", len(all), edits)
	}
}

// There is one listener per device, for any number of concurrent connections.
func testOneListener(p *pair) {
	p.race(func(i int, s store.Store) error {
		e := p.composeEndpoint(mine)
		e.URL = endpoint.ListenerURL("laptop")
		if err := s.CreateEndpoint(p.ctx, e, store.Trail{}); err != nil && !errors.Is(err, store.ErrRaced) {
			return err
		}
		id, err := s.EndpointAt(p.ctx, mine, e.URL)
		if err == nil && id == "" {
			err = errors.New("no identifier")
		}
		return err
	})
	all, _, err := p.ListEndpoints(p.ctx, mine, store.Page[int64]{Limit: 10})
	p.ok(err)
	p.equal("listeners", len(all), 1)
	_, err = p.EndpointAt(p.ctx, theirs, all[0].URL)
	p.code(err, fault.NotFound)
}

// An acknowledged cancellation is never one of a delivered delivery.
func testCancelAndSettle(p *pair) {
	for range edits {
		d := p.append(mine, "a.b", 7).Deliveries[0]
		var wg sync.WaitGroup
		var told delivery.State
		wg.Go(func() {
			v, err := p.stores[0].CancelDelivery(p.ctx, mine, d.ID, now(), func(v *delivery.View) store.Trail { return store.Trail{} })
			if told = v.State; err != nil {
				p.Error(err)
			}
		})
		wg.Go(func() {
			s := d
			at := delivery.Attempt{Number: 1, Started: now(), Outcome: delivery.OutcomeSucceeded}
			s.Settle(&at, delivery.Policy{}, now())
			if err := p.stores[1].Commit(p.ctx, &store.Batch{Settlements: []store.Settlement{{Delivery: s, Attempt: &at}}}); err != nil {
				p.Error(err)
			}
		})
		wg.Wait()
		p.equal("state", p.delivery(d.ID).State, told)
	}
}

// An edit of an object that was deleted meanwhile is not acknowledged, and restores nothing.
func testEditsOfWhatIsDeleted(p *pair) {
	for range edits {
		e := p.endpoint(mine)
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := p.stores[0].EditEndpoint(p.ctx, mine, e.ID, func(e *endpoint.Endpoint) (store.Trail, error) {
				e.Description += "x"
				return store.Trail{}, nil
			})
			if err != nil && !fault.Is(err, fault.NotFound) {
				p.Error(err)
			}
		})
		wg.Go(func() {
			for {
				now, err := p.stores[1].Endpoint(p.ctx, mine, e.ID)
				if err != nil {
					p.Error(err)
					return
				}
				if err := p.stores[1].DeleteEndpoint(p.ctx, now.No, now.Revision, time.Now(), store.Trail{}); !errors.Is(err, store.ErrRaced) {
					if err != nil {
						p.Error(err)
					}
					return
				}
			}
		})
		wg.Wait()
		_, err := p.Endpoint(p.ctx, mine, e.ID)
		p.code(err, fault.NotFound)
	}
}
