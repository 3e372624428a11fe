package httpapi

import (
	"net/http"
	"testing"

	"github.com/posthaste-hq/posthaste/internal/fault"
)

func TestRoom_isBoundedAndGivenBack(t *testing.T) {
	const limit = 2 * roomFor
	of := func(size int64) *http.Request { return &http.Request{ContentLength: size} }
	var k room
	leave, err := k.enter(of(limit), limit)
	if err != nil {
		t.Fatalf("a large body alone: %v", err)
	}
	if _, err := k.enter(of(1), limit); !fault.Is(err, fault.Unavailable) {
		t.Errorf("beside it: %v", err)
	}
	leave()
	first, err := k.enter(of(roomFor/2), limit)
	if err != nil {
		t.Fatal(err)
	}
	second, err := k.enter(of(roomFor/2), limit)
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int64{1, -1} { // the last counts as the limit
		if _, err := k.enter(of(size), limit); !fault.Is(err, fault.Unavailable) {
			t.Errorf("%d bytes more: %v", size, err)
		}
	}
	first()
	second()
	if left := k.taken.Load(); left != 0 {
		t.Errorf("%d bytes are still taken", left)
	}
}
