//go:build unix

package sender_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/sender"
)

// An attempt without an available file descriptor is not blamed on the endpoint: it does not
// count, whether it waits for its whole time or is refused at once.
func TestSend_withoutDescriptors(t *testing.T) {
	web := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer web.Close()
	s := sender.New(sender.Config{Brand: "Payment", Version: "test", Now: time.Now, AllowLoopback: true})
	defer s.Close()
	var usual unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &usual); err != nil {
		t.Fatal(err)
	}
	few := usual
	few.Cur = 128
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &few); err != nil {
		t.Fatal(err)
	}
	var taken []*os.File
	free := func() {
		for _, f := range taken {
			_ = f.Close()
		}
		taken = nil
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &usual); err != nil {
			t.Error(err)
		}
	}
	defer free()
	for {
		f, err := os.Open(os.DevNull)
		if err != nil {
			break
		}
		taken = append(taken, f)
	}
	secret := endpoint.NewSecret("sec_1", time.Now())
	send := func(url string, auth *endpoint.Authentication, timeout time.Duration) delivery.Attempt {
		return s.Send(context.Background(), &sender.Request{EventID: "evt_1", Body: []byte("{}"), URL: url, Secrets: []endpoint.Secret{secret}, Number: 1, Timeout: timeout, Auth: auth})
	}
	oauth := &endpoint.Authentication{Type: endpoint.AuthOAuth, Grant: endpoint.ClientCredentials, TokenURL: web.URL + "/token", ClientID: "c", ClientSecret: "s"}
	for name, a := range map[string]delivery.Attempt{"an address": send(web.URL, nil, 300*time.Millisecond), "a token": send(web.URL, oauth, 300*time.Millisecond), "a name": send("http://receiver.invalid:80/", nil, 300*time.Millisecond)} {
		if a.Outcome != delivery.OutcomeNone || !a.Shortage {
			t.Errorf("%s, without descriptors: %s, %q", name, a.Outcome, a.Error)
		}
	}
	free()
	if a := send(web.URL, nil, 10*time.Second); a.Outcome != delivery.OutcomeSucceeded || a.Shortage {
		t.Errorf("with descriptors: %s, %q", a.Outcome, a.Error)
	}
}
