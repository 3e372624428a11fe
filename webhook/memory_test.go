package webhook

import (
	"strconv"
	"testing"
	"time"
)

func TestMemory_isBounded(t *testing.T) {
	m := NewMemory(time.Hour)
	m.most = 3
	for i := range 10 {
		if err := m.MarkProcessed(t.Context(), strconv.Itoa(i)); err != nil {
			t.Fatal(err)
		}
	}
	if len(m.ids) != 3 || len(m.order) != 3 {
		t.Errorf("%d ids, %d in order", len(m.ids), len(m.order))
	}
	for i, want := range map[string]bool{"6": false, "7": true, "9": true} {
		if got, _ := m.Processed(t.Context(), i); got != want {
			t.Errorf("%s: %t, want the newest to be kept", i, got)
		}
	}
}
