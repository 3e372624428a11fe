package cli

import (
	"strings"
	"testing"
)

func TestPrintStatistics(t *testing.T) {
	var out strings.Builder
	err := printStatistics(&out, []byte(`{"object":"statistics","endpoint":null,"interval":"hour",
		"total":{"start":0,"end":7200,"events":3,"deliveries":4,"deliveries_failed":1,"attempts":{"succeeded":3,"failed":5},"attempt_duration_ms":{"p50":1.25,"p95":9,"p99":12345.678}},
		"data":[{"start":0,"end":3600,"events":3,"deliveries":4,"deliveries_failed":1,"attempts":{"succeeded":3,"failed":5},"attempt_duration_ms":{"p50":1.25,"p95":9,"p99":10}},
			{"start":3600,"end":7200,"events":null,"deliveries":0,"deliveries_failed":0,"attempts":{"succeeded":0,"failed":0},"attempt_duration_ms":null}]}`))
	if err != nil {
		t.Fatal(err)
	}
	var got [][]string
	for line := range strings.Lines(out.String()) {
		got = append(got, strings.Fields(line))
	}
	want := []string{"1970-01-01 00:00Z 3 4 1 3 5 1.2 10.0", "1970-01-01 01:00Z - 0 0 0 0 - -", "total 3 4 1 3 5 1.2 12345.7"}
	for i, w := range want {
		if g := strings.Join(got[i+1], " "); g != w {
			t.Errorf("line %d: %s, want %s", i+1, g, w)
		}
	}
}
