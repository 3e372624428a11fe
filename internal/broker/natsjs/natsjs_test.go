package natsjs_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/posthaste-hq/posthaste/internal/broker"
	"github.com/posthaste-hq/posthaste/internal/broker/brokertest"
	"github.com/posthaste-hq/posthaste/internal/broker/natsjs"
)

// run starts a NATS server with a stream.
func run(t *testing.T) *url.URL {
	t.Helper()
	s, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, JetStream: true, StoreDir: t.TempDir(), Username: "u", Password: "p", NoSigs: true})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	if !s.ReadyForConnections(30 * time.Second) {
		t.Fatal("the server does not start")
	}
	u, err := url.Parse(strings.Replace(s.ClientURL(), "nats://", "nats://u:p@", 1))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := nats.Connect(u.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(context.Background(), jetstream.StreamConfig{Name: "EVENTS", Subjects: []string{"out.>"}}); err != nil {
		t.Fatal(err)
	}
	return u
}

func TestBroker(t *testing.T) {
	b, err := natsjs.Open(run(t))
	if err != nil {
		t.Fatal(err)
	}
	brokertest.Run(t, &brokertest.Setup{Broker: b, Sink: "out.payments", Source: "EVENTS/out.payments", Nowhere: "elsewhere"})
}

// An attempt that is repeated because its confirmation was lost adds no message.
func TestPublish_again(t *testing.T) {
	b, err := natsjs.Open(run(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	for _, want := range []string{"stream EVENTS, sequence 1", "stream EVENTS, sequence 1, duplicate"} {
		if receipt, err := b.Publish(t.Context(), "out.x", broker.Message{ID: "evt_1", Body: []byte("{}")}); err != nil || receipt != want {
			t.Errorf("got %q, %v; want %q", receipt, err, want)
		}
	}
}

// Redelivery of a refused message ends with every server: also one before 2.10, which ignores a
// termination with a reason, and one that ignores every termination.
func TestConsume_oldServer(t *testing.T) {
	for _, tt := range []struct {
		name, version, ignored string
		most                   int64 // deliveries
	}{
		{"this one", "", "nothing", 1},
		{"2.9", "2.9.10", "+TERM ", 1},
		{"no termination", "2.9.10", "+TERM", 5},
	} {
		t.Run(tt.name, func(t *testing.T) {
			u := run(t)
			old := *u
			old.Host = asOldServer(t, u.Host, tt.version, tt.ignored)
			b, err := natsjs.Open(&old)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = b.Close() })
			conn, err := nats.Connect(u.String())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(conn.Close)
			js, err := jetstream.New(conn)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := js.Publish(t.Context(), "out.poison", []byte("poison")); err != nil {
				t.Fatal(err)
			}
			b.SetAckWait(100 * time.Millisecond)
			ctx, stop := context.WithCancel(t.Context())
			var came atomic.Int64
			ended := make(chan error, 1)
			go func() {
				ended <- b.Consume(ctx, "EVENTS", func(context.Context, broker.Message) error {
					came.Add(1)
					return fmt.Errorf("%w: never", broker.ErrRefused)
				})
			}()
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			for deadline := time.Now().Add(time.Minute); ; <-tick.C {
				var info *jetstream.ConsumerInfo
				c, err := js.Consumer(t.Context(), "EVENTS", "posthaste") // once it exists
				if err == nil {
					info, err = c.Info(t.Context())
				}
				if err == nil && came.Load() > 0 && info.NumAckPending == 0 && info.NumPending == 0 {
					break
				}
				if time.Now().After(deadline) {
					t.Fatalf("the message came %d times and is still pending: %+v, %v", came.Load(), info, err)
				}
			}
			stop()
			<-ended
			if n := came.Load(); n > tt.most {
				t.Errorf("the message came %d times, want at most %d", n, tt.most)
			}
		})
	}
}

// asOldServer starts a proxy that makes a NATS server look like an older one: it rewrites the
// version, and drops acknowledgements with a prefix that the older server ignores.
func asOldServer(t *testing.T, server, version, ignored string) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = client.Close() }()
				up, err := net.Dial("tcp", server)
				if err != nil {
					return
				}
				defer func() { _ = up.Close() }()
				go dropAcks(bufio.NewReader(client), up, ignored)
				r := bufio.NewReader(up)
				for { // the server sends INFO, with its version, more than once
					line, err := r.ReadString('\n')
					if strings.HasPrefix(line, "INFO {") && version != "" {
						line = regexp.MustCompile(`"version":"[^"]*"`).ReplaceAllString(line, `"version":"`+version+`"`)
					}
					if _, werr := io.WriteString(client, line); err != nil || werr != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

// dropAcks copies the protocol of a client, without acknowledgements that begin with ignored.
func dropAcks(from *bufio.Reader, to io.Writer, ignored string) {
	for {
		line, err := from.ReadString('\n')
		if err != nil {
			return
		}
		words := strings.Fields(line)
		var body []byte
		if len(words) > 2 && (words[0] == "PUB" || words[0] == "HPUB") {
			n, err := strconv.Atoi(words[len(words)-1])
			if err != nil {
				return
			}
			body = make([]byte, n+len("\r\n"))
			if _, err := io.ReadFull(from, body); err != nil {
				return
			}
			if strings.HasPrefix(words[1], "$JS.ACK.") && strings.HasPrefix(string(body), ignored) {
				continue
			}
		}
		if _, err := to.Write(append([]byte(line), body...)); err != nil {
			return
		}
	}
}
