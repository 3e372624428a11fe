// Package natsjs exchanges messages with NATS JetStream. An endpoint's address is a subject
// that a stream stores; a source's is a stream, or stream/subject for a part of it.
package natsjs

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/posthaste-hq/posthaste/internal/broker"
)

// Broker is a [broker.Broker].
type Broker struct {
	conn    *nats.Conn
	js      jetstream.JetStream
	ackWait time.Duration
}

const (
	consumer  = "posthaste" // the durable consumer that all nodes share
	again     = time.Second
	ackWait   = 10 * time.Second // messages of a crashed node are redelivered after this
	maxUnacks = 1024
)

var errLost = errors.New("the connection to the broker is lost")

// Open returns a broker for nats://user:password@host:port or tls://…, several hosts
// separated by commas. It connects now, or in the background when the server is available.
func Open(u *url.URL) (*Broker, error) {
	conn, err := nats.Connect(u.String(), nats.Name("posthaste"), nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.ReconnectWait(again), nats.ReconnectBufSize(-1))
	if err != nil {
		return nil, err
	}
	js, err := jetstream.New(conn)
	if err != nil {
		conn.Close()
		return nil, err
	}
	return &Broker{conn, js, ackWait}, nil
}

// Publish implements [broker.Broker]. The stream drops duplicates of the message's id within
// its duplicate window.
func (b *Broker) Publish(ctx context.Context, subject string, m broker.Message) (string, error) {
	msg := nats.NewMsg(strings.ReplaceAll(subject, "/", "."))
	msg.Data = m.Body
	for k, v := range m.Header {
		msg.Header[k] = []string{v}
	}
	ack, err := b.js.PublishMsg(ctx, msg, jetstream.WithMsgID(m.ID), jetstream.WithRetryAttempts(0))
	switch {
	case errors.Is(err, jetstream.ErrNoStreamResponse), errors.Is(err, nats.ErrNoResponders):
		return "", fmt.Errorf("%w: no stream stores the subject %s", broker.ErrRefused, msg.Subject)
	case err != nil:
		return "", err
	case ack.Duplicate:
		return fmt.Sprintf("stream %s, sequence %d, duplicate", ack.Stream, ack.Sequence), nil
	}
	return fmt.Sprintf("stream %s, sequence %d", ack.Stream, ack.Sequence), nil
}

// Consume implements [broker.Broker]. A refused message is not redelivered.
func (b *Broker) Consume(ctx context.Context, address string, take func(context.Context, broker.Message) error) error {
	stream, subject, _ := strings.Cut(address, "/")
	name := consumer
	if subject != "" {
		name += "-" + strings.NewReplacer(".", "_", "*", "any", ">", "all").Replace(subject)
	}
	c, err := b.js.CreateOrUpdateConsumer(ctx, stream, jetstream.ConsumerConfig{
		Durable: name, AckPolicy: jetstream.AckExplicitPolicy, AckWait: b.ackWait, FilterSubject: subject, MaxAckPending: maxUnacks,
	})
	if err != nil {
		return err
	}
	messages, err := c.Messages(jetstream.PullMaxMessages(2 * broker.AtOnce))
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer messages.Stop()
	defer context.AfterFunc(ctx, messages.Stop)()
	// The library waits for its server without an error, so the wait is reported separately.
	lost := b.conn.StatusChanged(nats.RECONNECTING, nats.CLOSED)
	defer b.conn.RemoveStatusListener(lost)
	wg.Go(func() {
		if _, open := <-lost; open {
			messages.Stop()
		}
	})
	slots := make(chan struct{}, broker.AtOnce)
	for {
		msg, err := messages.Next()
		if err != nil {
			if !b.conn.IsConnected() {
				err = errors.Join(errLost, b.conn.LastError())
			}
			return err
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			b.done(msg, take(ctx, message(msg)))
		})
	}
}

func message(msg jetstream.Msg) broker.Message {
	m := broker.Message{ID: msg.Headers().Get(jetstream.MsgIDHeader), Body: msg.Data(), Header: map[string]string{}}
	for k := range msg.Headers() {
		m.Header[k] = msg.Headers().Get(k)
	}
	if meta, err := msg.Metadata(); err == nil {
		m.Time = meta.Timestamp
		if m.ID == "" {
			m.ID = fmt.Sprintf("%s/%d", meta.Stream, meta.Sequence.Stream)
		}
	}
	return m
}

// done reports the result of a message to the stream. If the report is lost, the message is redelivered.
func (b *Broker) done(msg jetstream.Msg, err error) {
	switch {
	case err == nil:
		_ = msg.Ack()
	case errors.Is(err, broker.ErrRefused):
		b.terminate(msg, err)
	default:
		_ = msg.NakWithDelay(again)
	}
}

// mostTerms is the number of deliveries after which a refused message is acknowledged instead
// of terminated: a server that ignores the termination would redeliver it for ever.
const mostTerms = 5

// terminate stops redelivery of a message. Servers before 2.10 ignore a termination with a
// reason.
func (b *Broker) terminate(msg jetstream.Msg, reason error) {
	if meta, err := msg.Metadata(); err == nil && meta.NumDelivered >= mostTerms {
		_ = msg.Ack()
		return
	}
	if atLeast(b.conn.ConnectedServerVersion(), 2, 10) {
		_ = msg.TermWithReason(reason.Error())
		return
	}
	_ = msg.Term()
}

// atLeast reports whether a version such as "2.9.10" is major.minor or later.
func atLeast(version string, major, minor int) bool {
	var a, b int
	if _, err := fmt.Sscanf(version, "%d.%d", &a, &b); err != nil {
		return false
	}
	return a > major || a == major && b >= minor
}

// Close ends the connection.
func (b *Broker) Close() error {
	b.conn.Close()
	return nil
}
