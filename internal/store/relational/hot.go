package relational

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/seal"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// Commit implements [store.Hot].
func (s *Store) Commit(ctx context.Context, b *store.Batch) error {
	return s.write(ctx, "commit batch", func(t *Tx) error {
		rows, err := t.append(b.Appends)
		if err != nil {
			return err
		}
		if len(b.FanOuts) > 0 || settlesOwn(b) { // these events are read before the end
			if err := FlushAll(rows...); err != nil {
				return fmt.Errorf("append events: %w", err)
			}
			rows = nil
		}
		for _, f := range b.FanOuts {
			if err := t.fanOut(f); err != nil {
				return fmt.Errorf("write deliveries of deferred events: %w", err)
			}
		}
		attempts, err := t.settle(b.Settlements)
		if err != nil {
			return err
		}
		healths, err := t.remember(b.Health)
		if err != nil {
			return err
		}
		if err := FlushAll(append(rows, attempts, healths)...); err != nil {
			return fmt.Errorf("write events and attempts: %w", err)
		}
		return nil
	})
}

// settlesOwn reports whether a batch settles deliveries of events that it appends.
func settlesOwn(b *store.Batch) bool {
	if len(b.Appends) == 0 {
		return false
	}
	oldest := b.Appends[0].Event.Key
	for _, a := range b.Appends {
		oldest = min(oldest, a.Event.Key)
	}
	return slices.ContainsFunc(b.Settlements, func(s store.Settlement) bool { return s.Delivery.ID.Event >= oldest })
}

// remember collects the last health of each endpoint, in the order of endpoints.
func (t *Tx) remember(all []store.Health) (Bulk, error) {
	last := make(map[int64]delivery.Breaker, len(all))
	for _, h := range all {
		last[h.Endpoint] = h.Breaker
	}
	rows := t.Bulk(Healths)
	for _, no := range slices.Sorted(maps.Keys(last)) {
		breaker, err := json.Marshal(last[no])
		if err == nil {
			err = rows.Add(no, string(breaker))
		}
		if err != nil {
			return nil, fmt.Errorf("remember health of endpoint %d: %w", no, err)
		}
	}
	return rows, nil
}

// append collects the rows of the events that are not refused.
func (t *Tx) append(all []*store.Append) ([]Bulk, error) {
	if err := t.MarkStale(all); err != nil {
		return nil, fmt.Errorf("look for changed settings: %w", err)
	}
	events, deliveries, receipts, keys := t.Bulk(Events), t.Bulk(Deliveries), t.Bulk(Receipts), t.Bulk(Keys)
	known, err := t.Known(all)
	if err != nil {
		return nil, fmt.Errorf("look up ids and idempotency keys: %w", err)
	}
	taken, deferring := claims{}, deferring{}
	var written, ordered []*store.Append
	for _, a := range all {
		if err := t.judge(a, taken, known); err != nil {
			return nil, fmt.Errorf("append event %s: %w", a.Event.ID, err)
		}
		if a.Refused() {
			continue
		}
		if err := t.deferDeliveries(a, deferring); err != nil {
			return nil, fmt.Errorf("append event %s: %w", a.Event.ID, err)
		}
		written = append(written, a)
		if a.Ordered && !a.Deferred {
			ordered = append(ordered, a)
		}
	}
	if err := t.Queue(ordered); err != nil {
		return nil, fmt.Errorf("look for the ends of lanes: %w", err)
	}
	for _, a := range written {
		e := &a.Event
		var custom any
		if e.Custom {
			custom = e.ID
		}
		body := a.Packed
		if body == nil {
			body = store.Pack(e.Body)
		}
		err := events.Add(int64(e.Key), int64(e.Space), int64(e.Nonce), custom, e.Type, e.Created, body, []byte(e.Trace), []byte(e.Headers))
		for i := 0; i < len(a.Deliveries) && err == nil && !a.Deferred; i++ {
			err = deliveries.Add(deliveryArgs(&a.Deliveries[i])...)
		}
		for i := 0; i < len(a.Search) && err == nil; i++ {
			err = keys.Add(int64(e.Key), a.Search[i])
		}
		if a.Receipt != nil && err == nil {
			err = receipts.Add(t.receiptArgs(a.Receipt)...)
		}
		if err != nil {
			return nil, fmt.Errorf("append events up to %s: %w", e.ID, err)
		}
	}
	return []Bulk{events, deliveries, receipts, keys}, nil
}

// claims contains the names used by this batch, which no query sees yet.
type claims map[claim]*store.Append

type claim struct {
	receipt bool // name is a receipt's key, not an event's id
	space   event.Space
	name    string
}

// judge decides whether a is refused, and claims its names if not.
func (t *Tx) judge(a *store.Append, taken claims, known *Known) error {
	a.Replay, a.Taken = nil, nil // a failed batch is retried
	if a.Stale {
		return nil
	}
	e := &a.Event
	id, key := claim{false, e.Space, e.ID}, claim{}
	if r := a.Receipt; r != nil {
		key = claim{true, e.Space, r.Key}
		now := r.Created.Add(-r.Spare)
		if other := taken[key]; other != nil && other.Receipt.Live(now) {
			earlier := *other.Receipt
			a.Replay = &earlier
			return nil
		}
		earlier, found, err := t.receipt(e.Space, r.Key, now, known)
		if err != nil {
			return err
		}
		if found {
			a.Replay = &earlier
			return nil
		}
	}
	if e.Custom {
		if other := taken[id]; other != nil {
			earlier := other.Event
			a.Taken = &earlier
			return nil
		}
		earlier, found, err := t.eventByID(e.Space, e.ID, known)
		if err != nil {
			return err
		}
		if found {
			a.Taken = &earlier
			return nil
		}
	}
	taken[id] = a
	if a.Receipt != nil {
		taken[key] = a
	}
	return nil
}

func deliveryArgs(d *delivery.Delivery) []any {
	return []any{int64(d.ID.Event), d.ID.Endpoint, int64(d.Space), int64(d.State), d.Attempts, d.Budget,
		Millis(d.Due), Millis(d.Rank), Millis(d.Since), int64(d.LastOutcome), d.LastStatus, Millis(d.Settled)}
}

// settle writes the new states of deliveries, and collects the rows of their attempts.
func (t *Tx) settle(all []store.Settlement) (Bulk, error) {
	attempts := t.Bulk(Attempts)
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(a, b store.Settlement) int { return a.Delivery.ID.Compare(b.Delivery.ID) }) // in the order in which [Tx.requeue] locks them
	numbers, err := t.Settle(all)
	if err != nil {
		return nil, err
	}
	for i := range all {
		s := &all[i]
		number, erased := numbers[i], false
		if number == 0 {
			number, erased, err = t.settleState(s)
		}
		if a := s.Attempt; a != nil && number > 0 && err == nil {
			if erased {
				a = a.WithoutEvidence()
			}
			err = addAttempt(attempts, s.Delivery.ID, number, a)
		}
		if err != nil {
			return nil, fmt.Errorf("settle delivery %s: %w", s.Delivery.ID, err)
		}
	}
	return attempts, nil
}

func addAttempt(to Bulk, id delivery.ID, number int, a *delivery.Attempt) error {
	peer, refused, err := "", "", error(nil)
	if a.Peer != (delivery.Peer{}) {
		if peer, err = encoded(a.Peer); err != nil {
			return err
		}
	}
	if len(a.Refused) > 0 {
		if refused, err = encoded(a.Refused); err != nil {
			return err
		}
	}
	return to.Add(int64(id.Event), id.Endpoint, number, Millis(a.Started), a.Duration.Microseconds(),
		int64(a.Outcome), a.StatusCode, a.Error, a.RemoteAddr, a.ResponseHeader, nonNil(a.ResponseBody), string(a.RequestHeader),
		a.Timing.DNS.Microseconds(), a.Timing.Connect.Microseconds(), a.Timing.TLS.Microseconds(), a.Timing.Answer.Microseconds(),
		a.URL, peer, nonNil(a.BodySum), refused)
}

func encoded(v any) (string, error) {
	b, err := json.Marshal(v)
	return string(b), err
}

const settle = `UPDATE deliveries
	SET state = ?, attempts = CASE WHEN attempts > ? THEN attempts ELSE ? END, budget = ?, due = ?, rank = ?, last_outcome = ?, last_status = ?, settled = ?
	WHERE event = ? AND endpoint = ? AND state = 0 AND attempts < ?`

// settleState writes the delivery's new state if the stored one is still pending. It returns the number to store the
// attempt under: its own, unless a user has changed the delivery meanwhile and another attempt has that number; 0 if
// the delivery no longer exists. erased reports whether the event was erased; its deliveries are not pending.
func (t *Tx) settleState(s *store.Settlement) (number int, erased bool, err error) {
	d, a := &s.Delivery, s.Attempt
	update := func(number, unused int) (int64, error) {
		attempts := max(d.Attempts, number)
		return t.changed(settle, int64(d.State), attempts, attempts, d.Budget, Millis(d.Due), Millis(d.Rank),
			int64(d.LastOutcome), d.LastStatus, Millis(d.Settled), int64(d.ID.Event), d.ID.Endpoint, unused)
	}
	if a == nil {
		_, err := update(0, math.MaxInt32)
		return 0, false, err
	}
	if n, err := update(a.Number, a.Number); err != nil || n > 0 {
		return a.Number, false, err
	}
	row, found, err := t.row(2, `SELECT state, attempts FROM deliveries WHERE event = ? AND endpoint = ?`+t.Dialect.Lock(), int64(d.ID.Event), d.ID.Endpoint)
	if err != nil || !found { // it was erased or purged with its event
		return 0, false, err
	}
	// The event is not erased between this query and the end of the transaction.
	e, found, err := t.row(1, `SELECT erased FROM events WHERE key = ?`+t.Dialect.Share(), int64(d.ID.Event))
	if err != nil || !found {
		return 0, false, err
	}
	number, erased = max(a.Number, int(row[1].(int64))+1), e[0] != nil
	if row[0].(int64) == int64(delivery.Pending) {
		_, err = update(number, number)
		return number, erased, err
	}
	// The user's change is kept, but the attempt is recorded.
	return number, erased, t.exec(`UPDATE deliveries SET attempts = ?, last_outcome = ?, last_status = ? WHERE event = ? AND endpoint = ?`,
		number, int64(d.LastOutcome), d.LastStatus, int64(d.ID.Event), d.ID.Endpoint)
}

func nonNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// receipt returns the receipt of a key unless it is older than [store.ReceiptLife] at now.
func (t *Tx) receipt(space event.Space, key string, now time.Time, known *Known) (store.Receipt, bool, error) {
	row, found, err := known.receipt(t, Name{space, key})
	if err != nil || !found {
		return store.Receipt{}, false, err
	}
	r := store.Receipt{Space: space, Key: key, Status: int(row[1].(int64)), Body: Blob(row[2]), Private: row[3].(int64) != 0, Created: instant(row[4].(int64)), Event: event.Key(row[5].(int64))}
	copy(r.Fingerprint[:], Blob(row[0]))
	return r, r.Live(now), unsealReceipt(t.Ring, &r)
}

// receiptContext is the associated data of an encrypted receipt.
func receiptContext(r *store.Receipt) string { return fmt.Sprintf("%d %s", r.Space, r.Key) }

func unsealReceipt(ring *seal.Ring, r *store.Receipt) (err error) {
	if r.Private {
		r.Body, err = ring.Open(r.Body, receiptContext(r))
	}
	return err
}

// putReceipt stores a receipt, if it is not nil. An expired one is replaced.
func (t *Tx) putReceipt(r *store.Receipt) error {
	if r == nil {
		return nil
	}
	b := t.Bulk(Receipts)
	if err := b.Add(t.receiptArgs(r)...); err != nil {
		return err
	}
	return b.Flush()
}

func (t *Tx) receiptArgs(r *store.Receipt) []any {
	body := nonNil(r.Body)
	if r.Private {
		body = t.Ring.Seal(body, receiptContext(r))
	}
	return []any{int64(r.Space), r.Key, r.Fingerprint[:], r.Status, body, r.Private, Millis(r.Created), int64(r.Event)}
}

// eventByID finds an event by its public identifier, generated or chosen by its sender.
func (t *Tx) eventByID(space event.Space, id string, known *Known) (event.Event, bool, error) {
	row, found, err := known.event(t, Name{space, id})
	e := event.Event{ID: id, Custom: true, Space: space}
	if key, nonce, ok := event.ParseID(event.PrefixEvent, id); err == nil && !found && ok {
		row, found, err = t.row(5, `SELECT key, type, created, body, headers FROM events
			WHERE key = ? AND space = ? AND nonce = ? AND custom_id IS NULL`, int64(key), int64(space), int64(nonce))
		e.Custom, e.Nonce = false, nonce
	}
	if err != nil || !found {
		return event.Event{}, false, err
	}
	e.Key, e.Type, e.Created = event.Key(row[0].(int64)), Text(row[1]), row[2].(int64)
	e.Headers = event.Headers(Blob(row[4]))
	e.Body, err = store.Unpack(Blob(row[3]))
	return e, true, err
}

// Text converts a database's value of a text column.
func Text(v any) string {
	if b, ok := v.([]byte); ok {
		return string(b)
	}
	s, _ := v.(string)
	return s
}

// Blob converts a database's value of a column of bytes.
func Blob(v any) []byte {
	if s, ok := v.(string); ok {
		return []byte(s)
	}
	b, _ := v.([]byte)
	return b
}

// LoadLane implements [store.Hot].
func (s *Store) LoadLane(ctx context.Context, r store.LaneScan) ([]delivery.Outgoing, error) {
	if !r.Until.IsZero() {
		return s.Outgoing(ctx, "load lane", r.MaxBytes, `FROM deliveries d INDEXED BY deliveries_waiting JOIN events e ON e.key = d.event
			WHERE d.endpoint = ? AND d.state = 0 AND d.rank <= ? ORDER BY d.rank DESC, d.event DESC LIMIT ?`, r.Endpoint, Millis(r.Until), r.Limit)
	}
	return s.Outgoing(ctx, "load lane", r.MaxBytes, `FROM deliveries d INDEXED BY deliveries_waiting JOIN events e ON e.key = d.event
		WHERE d.endpoint = ? AND d.state = 0 AND (d.rank, d.event) > (?, ?) ORDER BY d.rank, d.event LIMIT ?`,
		r.Endpoint, r.After.Millis, int64(r.After.Event), r.Limit)
}

// Load implements [store.Hot], for few deliveries.
func (s *Store) Load(ctx context.Context, deliveries []delivery.ID) (outgoing []delivery.Outgoing, err error) {
	for _, id := range deliveries {
		found, err := s.Outgoing(ctx, "load delivery", math.MaxInt, `FROM deliveries d JOIN events e ON e.key = d.event
			WHERE d.event = ? AND d.endpoint = ? AND d.state = 0`, int64(id.Event), id.Endpoint)
		if err != nil {
			return nil, err
		}
		outgoing = append(outgoing, found...)
	}
	return outgoing, nil
}

// Outgoing reads deliveries d of events e, with the data to send them, until their bodies
// exceed maxBytes, without those of erased events. The text of from must be a constant.
func (s *Store) Outgoing(ctx context.Context, op string, maxBytes int, from string, args ...any) (_ []delivery.Outgoing, err error) {
	rows, err := s.hot(ctx, `SELECT `+deliveryColumns+`, e.nonce, e.custom_id, e.type, e.body, e.trace, e.headers, e.erased IS NOT NULL, `+s.Dialect.Version()+` `+from, args...)
	if err != nil {
		return nil, s.Fault(op, err)
	}
	defer s.closing(rows, &err)
	var outgoing []delivery.Outgoing
	for size := 0; size <= maxBytes && rows.Next(); {
		var o delivery.Outgoing
		id, erased := eventID{}, false
		if err := scanDelivery(rows, &o.Delivery, &id.nonce, &id.custom, &o.Type, &o.Body, (*[]byte)(&o.Trace), (*[]byte)(&o.Headers), &erased, &o.Version); err != nil {
			return nil, s.Fault(op, err)
		}
		if erased { // it is about to be canceled
			continue
		}
		if o.Body, err = store.Unpack(o.Body); err != nil {
			return nil, s.Fault(op, err)
		}
		o.EventID = id.of(o.Delivery.ID.Event)
		size += len(o.Body) + len(o.Headers)
		outgoing = append(outgoing, o)
	}
	return outgoing, s.Fault(op, rows.Err())
}

// Lanes implements [store.Hot]. It skips from endpoint to endpoint along the index instead of
// reading the pending deliveries.
func (s *Store) Lanes(ctx context.Context, after int64, limit int) (_ []store.Lane, err error) {
	rows, err := s.hot(ctx, `WITH RECURSIVE hop (endpoint) AS (
			SELECT (SELECT min(endpoint) FROM deliveries INDEXED BY deliveries_waiting WHERE state = 0 AND endpoint > ?)
			UNION ALL
			SELECT (SELECT min(d.endpoint) FROM deliveries d INDEXED BY deliveries_waiting WHERE d.state = 0 AND d.endpoint > hop.endpoint)
			FROM hop WHERE hop.endpoint IS NOT NULL
		)
		SELECT endpoint, (SELECT min(rank) FROM deliveries d INDEXED BY deliveries_waiting WHERE d.state = 0 AND d.endpoint = hop.endpoint)
		FROM hop WHERE endpoint IS NOT NULL LIMIT ?`, after, limit)
	if err != nil {
		return nil, s.Fault("list lanes", err)
	}
	defer s.closing(rows, &err)
	var lanes []store.Lane
	for rows.Next() {
		var l store.Lane
		var rank int64
		if err := rows.Scan(&l.Endpoint, &rank); err != nil {
			return nil, s.Fault("list lanes", err)
		}
		l.Rank = instant(rank)
		lanes = append(lanes, l)
	}
	return lanes, s.Fault("list lanes", rows.Err())
}

// CancelPending implements [store.Hot].
func (s *Store) CancelPending(ctx context.Context, endpoint int64, now time.Time, limit int) (n int, err error) {
	err = s.write(ctx, "cancel pending deliveries", func(t *Tx) error {
		changed, err := t.changed(`UPDATE deliveries SET state = 3, settled = ? WHERE (event, endpoint) IN (
			SELECT event, endpoint FROM deliveries INDEXED BY deliveries_waiting
			WHERE endpoint = ? AND state = 0 ORDER BY rank, event LIMIT ?)
			AND NOT EXISTS (SELECT 1 FROM endpoints WHERE no = ? AND deleted = 0)`, Millis(now), endpoint, limit, endpoint)
		n = int(changed)
		return err
	})
	return n, err
}
