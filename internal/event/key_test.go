package event

import (
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/posthaste-hq/posthaste/internal/fault"
)

func TestID_roundTrip(t *testing.T) {
	for _, k := range []Key{0, 1, 12345, math.MaxInt64} {
		for _, n := range []uint32{0, 1, math.MaxUint32} {
			id := FormatID("evt_", k, n)
			if len(id) != 24 || !ValidID(id) {
				t.Errorf("%d, %d: %q", k, n, id)
			}
			k2, n2, ok := ParseID("evt_", id)
			if !ok || k2 != k || n2 != n {
				t.Errorf("%q parses to %d, %d, %v, want %d, %d", id, k2, n2, ok, k, n)
			}
		}
	}
	for _, bad := range []string{"", "evt_", "we_00000000000000000001", "evt_0000000000000000000", "evt_000000000000000000001", "evt_0000000000000000000U", "evt_zzzzzzzzzzzzzzzzzzzz", "evt_0000000000000000000I"} {
		if _, _, ok := ParseID("evt_", bad); ok {
			t.Errorf("%q parses", bad)
		}
	}
}

func TestKeys(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_000)
	g := NewKeys(func() time.Time { return now }, 3)
	var keys []Key
	for i := range 30_000 { // more than fit in a millisecond, and a clock that steps back
		if i == 20_000 {
			now = now.Add(-time.Hour)
		}
		keys = append(keys, g.Next())
	}
	if !slices.IsSorted(keys) || len(slices.Compact(slices.Clone(keys))) != len(keys) {
		t.Error("keys do not strictly increase")
	}
	ids := make([]string, len(keys))
	for i, k := range keys {
		ids[i] = FormatID("evt_", k, uint32(i*7919))
	}
	if !slices.IsSorted(ids) {
		t.Error("ids do not sort by time")
	}
	if at := keys[0].Time(); !at.Equal(time.UnixMilli(1_700_000_000_000)) {
		t.Errorf("time = %s", at)
	}
	if low := KeyAt(keys[0].Time()); low > keys[0] || KeyAt(keys[0].Time().Add(time.Millisecond)) <= keys[0] {
		t.Error("KeyAt is not a bound")
	}
	later := NewKeys(func() time.Time { return now }, 0)
	later.After(keys[len(keys)-1])
	if k := later.Next(); k <= keys[len(keys)-1]|255<<keyCounterBits {
		t.Errorf("after the store's newest key came %d", k)
	}
}

func TestKeys_concurrent(t *testing.T) {
	g := NewKeys(time.Now, 0)
	var mu sync.Mutex
	seen := map[Key]bool{}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 2000 {
				k := g.Next()
				mu.Lock()
				if seen[k] {
					t.Errorf("%d twice", k)
				}
				seen[k] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

func TestNames(t *testing.T) {
	long := strings.Repeat("a", MaxTypeLength+1)
	for _, tt := range []struct {
		check func(string) bool
		good  []string
		bad   []string
	}{
		{ValidType, []string{"a", "payment.succeeded", "A_1.b2.c", "payment-method.added", "/orders/created", "iam:user:created", "a.", ".a", "a..b", "order_", "a/../b"},
			[]string{"", ".", "..", "/", "-_:", "a b", "*", "a.*", "a#b", "a?b", "a%2Fb", "a,b", `a"b`, `a\b`, "a+b", "é", long}},
		{ValidPattern, []string{"*", "payment.*", "payment.succeeded", "payment-method.*", "payment-*", "order_*", "/orders/*", "iam:user:*", "a..*"},
			[]string{"", "**", "*.a", "payment*", ".*", "/*", "a.*.b", "a.**", "pay ment.*"}},
		{ValidID, []string{"evt_1234567890abcdef", "evt_order-6735_payment_1", "evt_short", "7", "0198a6c2-5d3e-7b1a-9f6d-1a2b3c4d5e6f", "order:6735:paid"}, []string{"", "evt_1234567890abcde.", "evt_1234567890 abcdef", "a/b", "é", "cur_1", "x" + long}},
	} {
		for _, s := range tt.good {
			if !tt.check(s) {
				t.Errorf("%q is refused", s)
			}
		}
		for _, s := range tt.bad {
			if tt.check(s) {
				t.Errorf("%q is accepted", s)
			}
		}
	}
}

func TestParseInput_refuses(t *testing.T) {
	for _, tt := range []struct {
		name, in, param string
		reason          fault.Reason
	}{
		{"nothing", ``, "", "json_invalid"},
		{"no object", `[]`, "", "json_invalid"},
		{"text after it", `{"type":"a.b","data":{"object":{}}} x`, "", "json_invalid"},
		{"no type", `{"data":{"object":{}}}`, "type", "parameter_missing"},
		{"type of the wrong kind", `{"type":1,"data":{"object":{}}}`, "type", "parameter_invalid"},
		{"bad type", `{"type":"a b","data":{"object":{}}}`, "type", "event_type_invalid"},
		{"no data", `{"type":"a.b"}`, "data", "parameter_missing"},
		{"data of the wrong kind", `{"type":"a.b","data":[]}`, "data", "parameter_invalid"},
		{"no object in data", `{"type":"a.b","data":{"x":{}}}`, "data.object", "parameter_missing"},
		{"object of the wrong kind", `{"type":"a.b","data":{"x":{},"object":"y"}}`, "data.object", "parameter_invalid"},
		{"unknown", `{"type":"a.b","data":{"object":{}},"extra":{"deep":[1]}}`, "extra", "parameter_unknown"},
		{"twice", `{"type":"a.b","type":"a.c","data":{"object":{}}}`, "type", "duplicate_key"},
		{"bad id", `{"type":"a.b","id":"a/b","data":{"object":{}}}`, "id", "parameter_invalid"},
		{"empty id", `{"type":"a.b","id":"","data":{"object":{}}}`, "id", "parameter_invalid"},
		{"id with a dot", `{"type":"a.b","id":"evt_1234567890abc.ef","data":{"object":{}}}`, "id", "parameter_invalid"},
		{"created as text", `{"type":"a.b","created":"1","data":{"object":{}}}`, "created", "parameter_invalid"},
		{"created in milliseconds", `{"type":"a.b","created":1699564800000000,"data":{"object":{}}}`, "created", "parameter_invalid"},
		{"created in fractions", `{"type":"a.b","created":1.5,"data":{"object":{}}}`, "created", "parameter_invalid"},
		{"number that receivers would change", `{"type":"a.b","data":{"object":{"items":[1,{"amount":12345678901234567890}]}}}`, "data.object.items[1].amount", "number_not_representable"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in, err := ParseInput([]byte(tt.in))
			f, ok := err.(*fault.Error)
			if !ok {
				t.Fatalf("got %+v, %v, want a fault", in, err)
			}
			if f.Param != tt.param || f.Reason != tt.reason {
				t.Errorf("got %s at %q (%v), want %s at %q", f.Reason, f.Param, f, tt.reason, tt.param)
			}
		})
	}
	in, err := ParseInput([]byte(`{"type":"a.b","data":{"previous":{"2":1,"1":2},"object":{"b":1}},"created":7,"id":"evt_1234567890abcdef"}`))
	if err != nil || in.Type != "a.b" || in.Created != 7 || !in.HasCreated || in.ID != "evt_1234567890abcdef" ||
		string(in.Data) != `{"previous":{"1":2,"2":1},"object":{"b":1}}` {
		t.Errorf("got %+v %s, %v", in, in.Data, err)
	}
}

func TestSample_isStable(t *testing.T) {
	for _, typ := range []string{"payment.succeeded", "payment.failed", "refund.created", "subscription.created", "any.other"} {
		data := Sample(typ, 1699564800)
		if out, err := AppendStable(nil, data, "data"); err != nil || string(out) != string(data) {
			t.Errorf("%s: %s, %v", typ, data, err)
		}
		if err := checkObject(data); err != nil {
			t.Errorf("%s: %v", typ, err)
		}
	}
}

// The error about a time in another unit names the unit, and the value to send.
func TestCheckTime(t *testing.T) {
	for seconds, want := range map[float64]string{
		1699564800: "", 0: "", maxTime: "",
		1699564800123:       "looks like milliseconds: send 1699564800.",
		1699564800000000:    "looks like microseconds: send 1699564800.",
		1699564800000000000: "looks like nanoseconds: send 1699564800.",
		-1:                  "from 0 to 253402300799",
		1.5:                 "from 0 to 253402300799",
		1e30:                "from 0 to 253402300799",
	} {
		switch err := CheckTime("created", seconds, 0); {
		case want == "" && err != nil, want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%v: %v, want %q", seconds, err, want)
		}
	}
}
