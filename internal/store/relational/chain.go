package relational

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/seal"
)

// The audit log is chained: each entry has a seal over itself and the preceding seal, with a
// key that is stored encrypted, so that an attacker who can only write to the database cannot
// change or remove an entry without detection. Each node has its own chain, because its
// transactions wait for each other at the end of the chain. The end of a chain, and its
// beginning after retention, are sealed too.

// auditKeyName is the row of server_keys with the key of the chain.
const auditKeyName = "audit"

// serverKeyContext is the associated data of the rows of server_keys.
const serverKeyContext = "posthaste server key"

// auditKey is the key once it is known.
type auditKey = atomic.Pointer[[]byte]

// key returns the key of the chain, and creates it if there is none.
func (t *Tx) auditKey() ([]byte, error) {
	if k := t.chain.Load(); k != nil {
		return *k, nil
	}
	read := func() (key []byte, found bool, err error) {
		row, found, err := t.row(1, `SELECT sealed FROM server_keys WHERE name = ?`, auditKeyName)
		if err != nil || !found {
			return nil, found, err
		}
		key, err = t.Ring.Open(Blob(row[0]), serverKeyContext)
		return key, true, err
	}
	key, found, err := read()
	if err != nil {
		return nil, fmt.Errorf("read the key of the audit log: %w", err)
	}
	if found {
		t.chain.Store(&key)
		return key, nil
	}
	key = make([]byte, sha256.Size)
	rand.Read(key) // never fails (crypto/rand)
	if err := t.exec(`INSERT INTO server_keys (name, sealed, created) VALUES (?, ?, ?) ON CONFLICT DO NOTHING`,
		auditKeyName, t.Ring.Seal(key, serverKeyContext), Millis(time.Now())); err != nil {
		return nil, err
	}
	key, _, err = read() // another node's, if that was first; not cached, because this may be rolled back
	return key, err
}

// chainEnd is the end of a chain, and the point where retention cut off its beginning.
type chainEnd struct {
	node      int64
	seq       int64
	hash      []byte // of the last entry
	first     int64  // the last entry that was purged; 0: none
	firstHash []byte // of that
}

func (c *chainEnd) seal(key []byte) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte("end of chain"))
	for _, n := range []int64{c.node, c.seq, c.first} {
		m.Write(binary.AppendVarint(nil, n))
	}
	for _, h := range [][]byte{c.hash, c.firstHash} {
		m.Write(binary.AppendUvarint(nil, uint64(len(h))))
		m.Write(h)
	}
	return m.Sum(nil)
}

// sealEntry seals an entry, in its stored form, together with the preceding seal.
func sealEntry(key, before []byte, node, seq int64, e *account.Entry, detail []byte) []byte {
	m := hmac.New(sha256.New, key)
	field := func(b []byte) {
		m.Write(binary.AppendUvarint(nil, uint64(len(b))))
		m.Write(b)
	}
	field(before)
	for _, n := range []int64{node, seq, int64(e.Space), Millis(e.Time)} {
		m.Write(binary.AppendVarint(nil, n))
	}
	for _, s := range []string{e.ID, e.Actor, string(e.Action), e.Object, e.Request, e.Remote} {
		field([]byte(s))
	}
	field(detail)
	return m.Sum(nil)
}

// endOfChain locks the end of a chain until the transaction ends, and advances it by step.
func (t *Tx) endOfChain(node, step int64) (c chainEnd, err error) {
	c.node = node
	n, err := t.changed(`UPDATE audit_chains SET seq = seq + ? WHERE node = ?`, step, node)
	if err == nil && n == 0 && step > 0 {
		if err = t.exec(`INSERT INTO audit_chains (node, seq, hash, first, first_hash, mac) VALUES (?, 0, ?, 0, ?, ?) ON CONFLICT DO NOTHING`, node, []byte{}, []byte{}, []byte{}); err == nil {
			_, err = t.changed(`UPDATE audit_chains SET seq = seq + ? WHERE node = ?`, step, node)
		}
	}
	if err != nil {
		return c, err
	}
	row, found, err := t.row(4, `SELECT seq, hash, first, first_hash FROM audit_chains WHERE node = ?`, node)
	if err == nil && found {
		c.seq, c.hash, c.first, c.firstHash = row[0].(int64), Blob(row[1]), row[2].(int64), Blob(row[3])
	}
	return c, err
}

// chainEntry appends an entry to this node's chain. It returns the columns to store with it.
func (t *Tx) chainEntry(e *account.Entry, detail []byte) (node, seq int64, hash []byte, err error) {
	key, err := t.auditKey()
	if err != nil {
		return 0, 0, nil, err
	}
	c, err := t.endOfChain(t.node(), 1)
	if err != nil {
		return 0, 0, nil, err
	}
	before := c.hash
	c.hash = sealEntry(key, before, c.node, c.seq, e, detail)
	if err := t.exec(`UPDATE audit_chains SET hash = ?, mac = ? WHERE node = ?`, c.hash, c.seal(key), c.node); err != nil {
		return 0, 0, nil, err
	}
	return c.node, c.seq, c.hash, t.witness(&c, before)
}

// witnessName is the row of server_keys with the witness of a chain, without the node.
const witnessName = "audit end "

// witness stores the end of a chain a second time, apart from the tables of the log and sealed
// with the master key, so that resetting those tables to an older state is detected. It advances
// only with the entry that follows the recorded end, so that a reset is detected even after
// further entries.
func (t *Tx) witness(c *chainEnd, before []byte) error {
	name := witnessName + strconv.FormatInt(c.node, 10)
	row, found, err := t.row(1, `SELECT sealed FROM server_keys WHERE name = ?`, name)
	if err != nil {
		return err
	}
	if found {
		w := openWitness(t.Ring, c.node, Blob(row[0]))
		if w.seq != c.seq-1 || !hmac.Equal(w.hash, before) {
			return nil
		}
	}
	text := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, uint64(c.node)), uint64(c.seq))
	return t.exec(`INSERT INTO server_keys (name, sealed, created) VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE SET sealed = excluded.sealed`,
		name, t.Ring.Seal(append(text, c.hash...), serverKeyContext), Millis(time.Now()))
}

// openWitness returns the end of a node's chain in a witness; its seq is -1 if the witness was
// not written by this server.
func openWitness(ring *seal.Ring, node int64, sealed []byte) chainEnd {
	const numbers = 16
	text, err := ring.Open(sealed, serverKeyContext)
	if err != nil || len(text) <= numbers || int64(binary.BigEndian.Uint64(text)) != node {
		return chainEnd{node: node, seq: -1}
	}
	return chainEnd{node: node, seq: int64(binary.BigEndian.Uint64(text[8:])), hash: text[numbers:]}
}

// witnesses returns the separately stored ends of the chains, by node.
func (s *Store) witnesses(ctx context.Context) (all map[int64]chainEnd, err error) {
	found, err := list(ctx, s, "verify audit log", func(from scanner) (end chainEnd, err error) {
		var name string
		var sealed []byte
		if err := from.Scan(&name, &sealed); err != nil {
			return end, err
		}
		node, err := strconv.ParseInt(strings.TrimPrefix(name, witnessName), 10, 64)
		return openWitness(s.Ring, node, sealed), err
	}, `SELECT name, sealed FROM server_keys WHERE name LIKE ?`, witnessName+"%")
	all = map[int64]chainEnd{}
	for _, w := range found {
		all[w.node] = w
	}
	return all, err
}

// PurgeAudit implements [store.Upkeep]. It removes the beginnings of the chains: an entry is
// deleted if all preceding entries of its node are older than the time, too.
func (s *Store) PurgeAudit(ctx context.Context, before time.Time, limit int) (total int, err error) {
	err = s.write(ctx, "purge audit log", func(t *Tx) error {
		n, err := t.changed(`DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE seq = 0 AND time < ? ORDER BY time LIMIT ?)`, Millis(before), limit)
		if err != nil {
			return err
		}
		total = int(n)
		chains, err := t.rows(1, `SELECT node FROM audit_chains ORDER BY node`)
		if err != nil {
			return err
		}
		for _, row := range chains {
			if total >= limit {
				break
			}
			n, err := t.cutChain(row[0].(int64), before, limit-total)
			if err != nil {
				return err
			}
			total += n
		}
		return nil
	})
	return total, err
}

func (t *Tx) cutChain(node int64, before time.Time, limit int) (int, error) {
	old, err := t.rows(3, `SELECT seq, time, hash FROM audit WHERE chain = ? AND seq > 0 ORDER BY seq LIMIT ?`, node, limit)
	if err != nil {
		return 0, err
	}
	n := 0
	for n < len(old) && old[n][1].(int64) < Millis(before) {
		n++
	}
	if n == 0 {
		return 0, nil
	}
	key, err := t.auditKey()
	if err != nil {
		return 0, err
	}
	c, err := t.endOfChain(node, 0)
	if err != nil {
		return 0, err
	}
	c.first, c.firstHash = old[n-1][0].(int64), Blob(old[n-1][2])
	if err := t.exec(`DELETE FROM audit WHERE chain = ? AND seq > 0 AND seq <= ?`, node, c.first); err != nil {
		return 0, err
	}
	return n, t.exec(`UPDATE audit_chains SET first = ?, first_hash = ?, mac = ? WHERE node = ?`, c.first, c.firstHash, c.seal(key), node)
}

// mostProblems is the maximum number of reported problems of an audit log.
const mostProblems = 100

// VerifyAudit implements [store.Accounts].
func (s *Store) VerifyAudit(ctx context.Context) (out account.AuditCheck, err error) {
	out = account.AuditCheck{Object: "audit_check", Chains: []account.AuditChain{}, Problems: []account.AuditProblem{}}
	var key []byte
	var made int64
	if err := s.write(ctx, "read the key of the audit log", func(t *Tx) (err error) {
		if key, err = t.auditKey(); err != nil {
			return err
		}
		row, _, err := t.row(1, `SELECT created FROM server_keys WHERE name = ?`, auditKeyName)
		if err == nil {
			made = row[0].(int64)
		}
		return err
	}); err != nil {
		return out, err
	}
	witnesses, err := s.witnesses(ctx) // read before the log, which may only grow meanwhile
	if err != nil {
		return out, err
	}
	// A single statement sees both tables in one state.
	rows, err := s.query(ctx, `SELECT c.node, c.seq, c.hash, c.first, c.first_hash, c.mac,
			coalesce(a.seq, 0), coalesce(a.hash, c.mac), coalesce(a.id, ''), coalesce(a.space, 0), coalesce(a.time, 0), coalesce(a.actor, ''), coalesce(a.action, ''),
			coalesce(a.object, ''), coalesce(a.request, ''), coalesce(a.remote, ''), coalesce(a.detail, '')
		FROM audit_chains c LEFT JOIN audit a ON a.chain = c.node AND a.seq > 0 ORDER BY c.node, a.seq`)
	if err != nil {
		return out, s.Fault("verify audit log", err)
	}
	defer s.closing(rows, &err)
	problem := func(node int64, seq int64, id, text string) {
		if len(out.Problems) < mostProblems {
			p := account.AuditProblem{Node: node, Sequence: seq, Message: text}
			if id != "" {
				p.Entry = &id
			}
			out.Problems = append(out.Problems, p)
		}
	}
	var at chainEnd // of the chain being read: seq and hash are those of the preceding entry
	var end chainEnd
	finish := func() {
		if n := len(out.Chains); n > 0 {
			if at.seq != end.seq || !hmac.Equal(at.hash, end.hash) {
				problem(end.node, end.seq, "", fmt.Sprintf("The end of the chain is missing: the last entry is %d of %d.", at.seq, end.seq))
			}
		}
	}
	for rows.Next() {
		var c chainEnd
		var mac, hash, detail []byte
		var seq, millis int64
		var e account.Entry
		if err := rows.Scan(&c.node, &c.seq, &c.hash, &c.first, &c.firstHash, &mac, &seq, &hash, &e.ID, &e.Space, &millis, &e.Actor, &e.Action, &e.Object, &e.Request, &e.Remote, &detail); err != nil {
			return out, s.Fault("verify audit log", err)
		}
		if n := len(out.Chains); n == 0 || out.Chains[n-1].Node != c.node {
			finish()
			end, at = c, chainEnd{node: c.node, seq: c.first, hash: c.firstHash}
			out.Chains = append(out.Chains, account.AuditChain{Node: c.node, First: c.first + 1, Last: c.seq, Seal: fmt.Sprintf("%x", c.hash)})
			if !hmac.Equal(mac, c.seal(key)) {
				problem(c.node, c.seq, "", "The record of the chain's beginning and end was changed.")
			}
		}
		if seq == 0 { // the chain has no entry
			continue
		}
		e.Time = instant(millis)
		if seq != at.seq+1 {
			problem(c.node, seq, e.ID, fmt.Sprintf("Entries %d to %d are missing.", at.seq+1, seq-1))
			at.hash = nil // the following entries cannot be checked against it
		}
		if at.hash != nil || seq == 1 {
			if !hmac.Equal(hash, sealEntry(key, at.hash, c.node, seq, &e, detail)) {
				problem(c.node, seq, e.ID, "The entry was changed, or belongs to another log.")
			}
		}
		if w, ok := witnesses[c.node]; ok && w.seq == seq && !hmac.Equal(w.hash, hash) {
			problem(c.node, seq, e.ID, "The log was reset to an older state and went on from there: this entry is not the one that was written first.")
		}
		at.seq, at.hash = seq, hash
		out.Chains[len(out.Chains)-1].Entries++
	}
	if err := rows.Err(); err != nil {
		return out, s.Fault("verify audit log", err)
	}
	finish()
	for _, node := range slices.Sorted(maps.Keys(witnesses)) {
		w, last := witnesses[node], int64(0)
		for _, c := range out.Chains {
			if c.Node == node {
				last = c.Last
			}
		}
		switch {
		case w.seq < 0:
			problem(node, 0, "", "The second record of where the chain ends was changed.")
		case last < w.seq:
			problem(node, w.seq, "", fmt.Sprintf("The log was reset to an older state: the chain ends with entry %d, and %d have been written.", last, w.seq))
		}
	}
	late := 0
	if err := s.queryRow(ctx, `SELECT count(*), count(CASE WHEN time > ? THEN 1 END) FROM audit WHERE seq = 0`, made).Scan(&out.Unchained, &late); err != nil {
		return out, s.Fault("verify audit log", err)
	}
	if late > 0 {
		problem(0, 0, "", fmt.Sprintf("%d entries are in no chain, although they were written after its beginning.", late))
	}
	out.OK = len(out.Problems) == 0
	return out, nil
}
