package call

import (
	"testing"
	"time"
)

func TestOffsets(t *testing.T) {
	const day, hour = 24 * time.Hour, time.Hour
	for _, tt := range []struct {
		name  string
		steps []offset // by so much ahead from a time on
		want  time.Duration
	}{
		{"a clock that goes right", []offset{{0, hour}, {0, 50 * day}}, 0},
		{"adjusted by less than a second", []offset{{time.Second - 1, hour}}, 0},
		{"adjusted by a second in all", []offset{{time.Second / 2, hour}, {time.Second, 2 * hour}}, time.Second},
		{"stepped forward", []offset{{0, hour}, {72 * hour, hour}}, 72 * hour},
		{"nearly a day after that", []offset{{0, hour}, {72 * hour, hour}, {72 * hour, hour + day - 1}}, 72 * hour},
		{"a day after that", []offset{{0, hour}, {72 * hour, hour}, {72 * hour, hour + day}}, 0},
		{"stepped forward and back", []offset{{72 * hour, hour}, {0, 2 * hour}}, 0},
		{"back and forward", []offset{{-5 * hour, hour}, {0, 2 * hour}}, 5 * hour},
		{"forward twice", []offset{{2 * hour, hour}, {5 * hour, 2 * hour}}, 5 * hour},
		{"of forward twice, the first forgotten", []offset{{2 * hour, hour}, {5 * hour, 2 * hour}, {5 * hour, hour + day}}, 3 * hour},
		{"stepped back", []offset{{-72 * hour, hour}}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var o offsets
			var got time.Duration
			for _, s := range tt.steps {
				got = o.at(s.until+s.by, s.until)
			}
			if got != tt.want {
				t.Errorf("spare %s, want %s", got, tt.want)
			}
		})
	}
	var o offsets
	now := time.Now()
	if got := o.spare(now) + o.spare(now.Add(time.Hour)); got != 0 {
		t.Errorf("spare %s where the clock was not stepped", got)
	}
}
