package measure

import (
	"encoding/json"
	"testing"
	"time"
)

func TestPercentile(t *testing.T) {
	d := []time.Duration{5, 1, 4, 2, 3}
	for p, want := range map[float64]time.Duration{0: 1, 20: 1, 50: 3, 99: 5, 100: 5} {
		if got := Percentile(d, p); got != want {
			t.Errorf("p%v = %d, want %d", p, got, want)
		}
	}
	if got := Percentile(nil, 50); got != 0 {
		t.Errorf("of nothing = %d, want 0", got)
	}
}

func TestMedian(t *testing.T) {
	if mid, least, most := Median([]float64{3, 1, 2}); mid != 2 || least != 1 || most != 3 {
		t.Errorf("got %v, %v, %v", mid, least, most)
	}
	if mid, _, _ := Median([]float64{4, 1, 2, 3}); mid != 2.5 {
		t.Errorf("of four = %v, want 2.5", mid)
	}
}

func TestEvent(t *testing.T) {
	for _, size := range []int{0, 1024, 20 << 10} {
		b := Event("payment.succeeded", size)
		if !json.Valid(b) || size > 300 && len(b) != size {
			t.Errorf("size %d: %d bytes, valid %v", size, len(b), json.Valid(b))
		}
	}
}
