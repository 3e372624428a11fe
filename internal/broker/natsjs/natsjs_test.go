package natsjs_test

import (
	"context"
	"net/url"
	"strings"
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

// An attempt that is made again because its confirmation was lost adds nothing.
func TestPublish_again(t *testing.T) {
	b, err := natsjs.Open(run(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	for _, want := range []string{"stream EVENTS, sequence 1", "stream EVENTS, sequence 1, had it before"} {
		if receipt, err := b.Publish(t.Context(), "out.x", broker.Message{ID: "evt_1", Body: []byte("{}")}); err != nil || receipt != want {
			t.Errorf("got %q, %v; want %q", receipt, err, want)
		}
	}
}
