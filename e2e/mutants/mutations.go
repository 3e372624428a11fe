package main

// Tests that many mutations need.
var (
	simulation = run{pkg: "./internal/dispatch", tests: "TestSimulation", args: []string{"-sim.seeds=300"}}
	committer  = run{pkg: "./internal/commit", tests: "TestCommitter.*"}
)

func engine(tests string) run { return run{pkg: "./internal/dispatch", tests: tests} }

func sends(tests string) run { return run{pkg: "./internal/sender", tests: tests} }

// mutations are the mutations, which are tried one at a time. A mutation of the protection of
// private addresses may run only tests whose targets are on loopback.
var mutations = []mutation{
	{
		what: "an event is acknowledged before it is on disk",
		file: "internal/commit/commit.go",
		edits: []edit{{"	done.Wait()\n	return outcome(p.err)", "	return nil"},
			{"	done.Wait()\n	for i := range waiting {\n		errs[i] = outcome(waiting[i].err)", "	for i := range waiting {\n		errs[i] = nil"}},
		tests: []run{committer, simulation},
	},
	{
		what:  "outcomes are dropped while the store refuses them",
		file:  "internal/commit/commit.go",
		edits: []edit{{"		*kept = *outcomes", "		_ = outcomes"}},
		tests: []run{committer, simulation},
	},
	{
		what:  "a delivery is attempted before it is due",
		file:  "internal/dispatch/worker.go",
		edits: []edit{{"	return d.Budget == 0 || !d.Due.After(now)", "	return true || now.IsZero()"}},
		tests: []run{simulation},
	},
	{
		what:  "a delivery that is under way is read and attempted again",
		file:  "internal/dispatch/worker.go",
		edits: []edit{{"		if l.holds(o.Delivery.ID.Event) {\n			end", "		if l.holds(o.Delivery.ID.Event) && now.IsZero() {\n			end"}},
		tests: []run{simulation},
	},
	{
		what:  "an ordered lane goes on after a failure",
		file:  "internal/dispatch/worker.go",
		edits: []edit{{"	if ordered(ep) && d.State == delivery.Pending {", "	if ordered(ep) && d.State == delivery.Canceled {"}},
		tests: []run{engine("TestEngine_fifo"), simulation},
	},
	{
		what:  "an ordered lane makes two attempts at a time",
		file:  "internal/dispatch/plan.go",
		edits: []edit{{"	case l.inflight > 0:\n		return stepWait, time.Time{}\n	case l.ready.len() > 0:", "	case l.inflight > 1:\n		return stepWait, time.Time{}\n	case l.ready.len() > 0:"}},
		tests: []run{simulation},
	},
	{
		what:  "pending deliveries are not read after a restart",
		file:  "internal/dispatch/engine.go",
		edits: []edit{{"	e.workers.Go(e.keepTime)\n	e.workers.Go(e.scan)", "	e.workers.Go(e.keepTime)\n	e.scanned = true"}},
		tests: []run{engine("TestEngine_restart"), simulation},
	},
	{
		what:  "what another reader found takes no notice of what was settled meanwhile",
		file:  "internal/dispatch/lane.go",
		edits: []edit{{"		r.settled = append(r.settled, d.ID.Event)", "		l.letGo(d.ID.Event)"}},
		tests: []run{engine("TestEngine_readOvertakenBySettlement"), simulation},
	},
	{
		what:  "the breaker is ignored",
		file:  "internal/dispatch/plan.go",
		edits: []edit{{"	case now.Before(l.breaker.ProbeAt):\n		return stepWait, l.breaker.ProbeAt", "	case now.IsZero():\n		return stepWait, l.breaker.ProbeAt"}},
		tests: []run{engine("TestEngine_deadFleet"), simulation},
	},
	{
		what:  "a type that is refused opens the breaker although others are acknowledged",
		file:  "internal/dispatch/streak.go",
		edits: []edit{{"s.Alone() && effect", "s.Alone() && now.IsZero() && effect"}},
		tests: []run{engine("TestEngine_poison")},
	},
	{
		what:  "what waits behind a type that is refused is not looked for",
		file:  "internal/dispatch/worker.go",
		edits: []edit{{"			l.passOver(&o.Delivery, o.Type)\n			end", "			return end, dated\n			end"}},
		tests: []run{engine("TestEngine_poisonBacklog"), simulation},
	},
	{
		what:  "a type that is refused is attempted without a pause",
		file:  "internal/dispatch/streak.go",
		edits: []edit{{"	case s == nil || !s.Holds():\n		return true", "	case true || !s.Holds():\n		return true"}},
		tests: []run{engine("TestEngine_refusesEverything")},
	},
	{
		what:  "what a person asks for waits behind the breaker",
		file:  "internal/dispatch/urgent.go",
		edits: []edit{{"	if l.urgent.len() == 0 ||", "	if l.urgent.len() == 0 || l.breaker.Open() ||"}},
		tests: []run{engine("TestEngine_expedite"), simulation},
	},
	{
		what:  "the breaker never opens",
		file:  "internal/delivery/breaker.go",
		edits: []edit{{"		b.ProbeAt = now.Add(b.Interval)", "		_ = now"}},
		tests: []run{{pkg: "./internal/delivery", tests: "TestBreaker.*"}, simulation},
	},
	{
		what:  "an endpoint's rate is not kept",
		file:  "internal/dispatch/lane.go",
		edits: []edit{{"		l.limiter.AllowN(now, 1)", "		_ = now"}},
		tests: []run{engine("TestEngine_rate"), simulation},
	},
	{
		what:  "one account may have all workers",
		file:  "internal/dispatch/share.go",
		edits: []edit{{"	return s.used[p] < workersPerFree*free ||", "	return free > 0 ||"}},
		tests: []run{engine("TestEngine_accountsTakeTurns")},
	},
	{
		what:  "endpoints that hang may have all workers",
		file:  "internal/dispatch/share.go",
		edits: []edit{{"trials: e.Workers / 2,", "trials: e.Workers,"}},
		tests: []run{engine("TestEngine_hangingEndpointsDelayNoOther"), simulation},
	},
	{
		what:  "memory is not bounded",
		file:  "internal/dispatch/engine.go",
		edits: []edit{{" || e.bytes+weight(o) > e.QueueBytes\n", "\n"}},
		tests: []run{engine("TestEngine_memory.*"), simulation},
	},
	{
		what:  "a delivery without attempts left is not announced",
		file:  "internal/dispatch/worker.go",
		edits: []edit{{"		e.Watcher.DeliveryExhausted(f)", "		_ = job"}},
		tests: []run{simulation},
	},
	{
		what:  "a retry has another body than the first attempt",
		file:  "internal/dispatch/worker.go",
		edits: []edit{{"EventHeader: out.Headers, Body: p.Body,", "EventHeader: out.Headers, Body: append(make([]byte, min(out.Delivery.Attempts, 1)), p.Body...),"}},
		tests: []run{simulation},
	},
	{
		what:  "a retry comes sooner than the receiver asked for",
		file:  "internal/delivery/delivery.go",
		edits: []edit{{"now.Add(max(delay, a.RetryAfter))", "now.Add(delay)"}},
		tests: []run{{pkg: "./internal/delivery", tests: "Test.*"}, engine("TestEngine_retryAfter")},
	},
	{
		what:  "during a rotation, the newest secret signs for receivers that know one",
		file:  "internal/sender/sender.go",
		edits: []edit{{"s.secrets.get(r.Secrets[plain].Value, webhook.ParseSecret)", "s.secrets.get(r.Secrets[len(r.Secrets)-1].Value, webhook.ParseSecret)"}},
		tests: []run{sends("TestSend_(twoLiveSecrets|signs|singleSecretReceivers)")},
	},
	{
		what:  "a name that means this machine by now is sent to",
		file:  "internal/sender/guard.go",
		edits: []edit{{"	if err := g.public.SafeAddr(a); err != nil {", "	if err := g.public.SafeAddr(a); err != nil && !a.IsLoopback() {"}},
		tests: []run{sends("TestGuard_rebindingLater")}, // its targets are 127.0.0.1 and 127.0.0.2
	},
	{
		what:  "a signature of another body verifies",
		file:  "webhook/verify.go",
		edits: []edit{{"		if hmac.Equal([]byte(given), s.AppendSign(buf[:0], body)) {", "		if len(given) == len(s.AppendSign(buf[:0], body)) || hmac.Equal(nil, body) {"}},
		tests: []run{{pkg: "./webhook", tests: "Test.*"}},
	},
	{
		what:  "a node that lost its lease may write",
		file:  "internal/store/postgres/node.go",
		edits: []edit{{"	if len(rows) == 0 {\n		return store.ErrFenced", "	if len(rows) == 0 {\n		return nil"}},
		tests: []run{{pkg: "./internal/store/postgres", tests: "TestNodes"}},
	},
	{
		what:  "a node that was removed inside a transaction commits it",
		file:  "internal/store/postgres/node.go",
		edits: []edit{{`"; select pg_advisory_xact_lock_shared(" + m.latch + ", " + strconv.Itoa(m.no) + ")"`, `"; select " + m.latch + " + " + strconv.Itoa(m.no)`}},
		tests: []run{{pkg: "./internal/store/postgres", tests: "TestRemove_silent"}},
	},
	{
		what:  "nodes are taken for dead after a time in which none could look",
		file:  "internal/cluster/watch.go",
		edits: []edit{{"now.Sub(w.last) > lease/2", "now.Sub(w.last) > 100*lease"}},
		tests: []run{{pkg: "./internal/cluster", tests: "TestWatch"}},
	},
	{
		what:  "a clock decides the order of an endpoint's events",
		file:  "internal/store/postgres/order.go",
		edits: []edit{{"	if !before.Before(at) {", "	if false && !before.Before(at) {"}},
		tests: []run{{pkg: "./internal/store/postgres", tests: "TestOrder_clocks"}},
	},
	{
		what:  "outcomes are given up while PostgreSQL's disk is full",
		file:  "internal/store/postgres/postgres.go",
		edits: []edit{{`	case "08", "53", "57",`, `	case "08", "57",`}},
		tests: []run{{pkg: "./internal/store/postgres", tests: "TestUnavailable"}},
	},
	{
		what:  "a transaction is not synced to disk",
		file:  "internal/store/sqlite/sqlite.go",
		edits: []edit{{`"synchronous(FULL)"`, `"synchronous(OFF)"`}},
		tests: []run{{pkg: "./internal/store/sqlite", tests: "TestOpen_.*"}},
	},
	{
		what:  "a step of the clock back leaves retries dated ahead",
		file:  "internal/dispatch/worker.go",
		edits: []edit{{"redated := o.Delivery.Redate(e.policy(ep), now)", "redated := false && o.Delivery.Redate(e.policy(ep), now)"}},
		tests: []run{engine("TestEngine_stepsBackPutNothingOff")},
	},
	{
		what:  "an event is not sent that a filter cannot be evaluated over",
		file:  "internal/endpoint/filter.go",
		edits: []edit{{"	return accepted || err != nil, err", "	return accepted, err"}},
		tests: []run{{pkg: "./internal/endpoint", tests: "TestAccepts_.*"}},
	},
	{
		what:  "a revoked API key is good for as long as it is known",
		file:  "internal/service/auth/key.go",
		edits: []edit{{"	case !k.Revoked.IsZero():\n		return nil", "	case k.ID == \"\" && !k.Revoked.IsZero():\n		return nil"}},
		tests: []run{{pkg: "./internal/httpapi", tests: "TestAuth_.*"}},
	},
	{
		what:  "viewers may change what they see",
		file:  "internal/service/call/once.go",
		edits: []edit{{"	if c.Key.Role == account.Viewer {", "	if c.Key.Role == account.Viewer && c.Request == \"\" {"}},
		tests: []run{{pkg: "./internal/httpapi", tests: "TestAuth_matrix"}},
	},
	{
		what:  "a form of another session is taken",
		file:  "internal/adminui/ui.go",
		edits: []edit{{"	if rq.Method == http.MethodPost && rq.token != \"\" &&", "	if rq.Method == http.MethodPost && rq.token == \"\" &&"}},
		tests: []run{{pkg: "./internal/adminui", tests: "TestAccess_matrix"}},
	},
	{
		what:  "a repeated request with its idempotency key makes a second event",
		file:  "internal/service/call/once.go",
		edits: []edit{{"	return &Replayed{Receipt: again}", "	return nil"}},
		tests: []run{{pkg: "./internal/httpapi", tests: "TestIdempotency_.*"}},
	},
	{
		what: "credentials are written as they are",
		file: "internal/store/relational/endpoint.go",
		edits: []edit{{"string(j.metadata), t.Ring.Seal(j.private, e.ID), string(j.settings)", "string(j.metadata), j.private, string(j.settings)"},
			{"append(args, s.Ring.Seal(is.private, e.ID))", "append(args, is.private)"}},
		tests: []run{{pkg: "./internal/store/sqlite", tests: "TestSeal_.*"}},
	},
	{
		what:  "a deleted endpoint is forgotten while deliveries name it",
		file:  "internal/store/relational/endpoint.go",
		edits: []edit{{"d.endpoint = endpoints.no LIMIT 1", "d.endpoint = -endpoints.no LIMIT 1"}},
		tests: []run{{pkg: "./internal/store/sqlite", tests: "TestContract"}},
	},
	{
		what:  "the untransformed event is sent if the endpoint's transformation fails",
		file:  "internal/endpoint/shape.go",
		edits: []edit{{"			return Payload{Cost: cost}, err", "			return Payload{Body: body}, nil"}},
		tests: []run{{pkg: "./internal/endpoint", tests: "TestPayload_.*"}},
	},
	{
		what:  "deliveries do not wait for their receiver's consent",
		file:  "internal/endpoint/endpoint.go",
		edits: []edit{{" && !e.AwaitsConsent()", ""}},
		tests: []run{{pkg: "./internal/endpoint", tests: "TestSeekConsent"}},
	},
	{
		what:  "a sync is believed of a file system that broke down",
		file:  "internal/store/sqlite/writer.go",
		edits: []edit{{"	if err := s.intact(); err != nil {", "	if err := s.intact(); err != nil && op == \"\" {"}},
		tests: []run{{pkg: "./internal/store/sqlite", tests: "TestCommit_.*"}},
	},
	{
		what:  "anybody may consent for a receiver",
		file:  "internal/service/consent.go",
		edits: []edit{{"subtle.ConstantTimeCompare(sealed, sealConsent(&e)) != 1", "subtle.ConstantTimeCompare(sealed, sealConsent(&e)) == 2"}},
		tests: []run{{pkg: "./internal/httpapi", tests: "TestValidation_.*"}},
	},
	{
		what:  "an event is stored by settings that another node has changed",
		file:  "internal/store/postgres/tx.go",
		edits: []edit{{"		a.Stale = a.Version != 0 && max(", "		a.Stale = a.Version < 0 && max("}},
		tests: []run{{pkg: "./internal/store/postgres", tests: "TestCommit_stale"}},
	},
	{
		what:  "a key that another node has revoked is accepted for requests without events",
		file:  "internal/service/settings.go",
		edits: []edit{{"	return version, s.Auth.Recheck(c)\n", "	return version, nil\n"}},
		tests: []run{{pkg: "./internal/service", tests: "TestRecheck"}},
	},
	{
		what:  "an edit writes over what was written since it was read",
		file:  "internal/store/relational/endpoint.go",
		edits: []edit{{"update+` WHERE no = ? AND version = ? AND deleted = 0`, append", "update+` WHERE no = ? AND version <> -? AND deleted = 0`, append"}},
		tests: []run{{pkg: "./internal/store/sqlite", tests: "TestContract_shared"}},
	},
	{
		what:  "admins demote each other at once",
		file:  "internal/store/relational/user.go",
		edits: []edit{{"				return store.ErrRaced\n			}\n			if u.Revision", "				_ = store.ErrRaced\n			}\n			if u.Revision"}},
		tests: []run{{pkg: "./internal/store/postgres", tests: "TestContract_shared"}},
	},
	{
		what:  "memory takes an earlier state of an endpoint for a later one",
		file:  "internal/endpoint/registry.go",
		edits: []edit{{"	if old != nil && old.Revision > e.Revision {", "	if old != nil && old.Revision > e.Revision && old.No < 0 {"}},
		tests: []run{{pkg: "./internal/endpoint", tests: "TestRegistry_order"}},
	},
}
