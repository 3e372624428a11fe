package account

import (
	"testing"
	"time"
)

func TestSession_live(t *testing.T) {
	began := time.UnixMilli(1_700_000_000_000)
	n := Session{Created: began, Expires: began.Add(SessionLife)}
	for at, want := range map[time.Duration]bool{
		-SessionLife:      false, // it would last twice as long
		-clockSlack - 1:   false,
		-clockSlack:       true,
		0:                 true,
		SessionLife - 1:   true,
		SessionLife:       false,
		100 * SessionLife: false,
	} {
		if got := n.Live(began.Add(at)); got != want {
			t.Errorf("%s after it began: live %t", at, got)
		}
	}
}
