// Package rabbitmq exchanges messages with RabbitMQ and other brokers that implement AMQP
// 0-9-1. An endpoint's address is exchange/routing.key, or /queue for the default exchange; a
// source's is a queue. Refused messages are rejected: they go to the queue's dead-letter
// exchange if it has one.
package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/posthaste-hq/posthaste/internal/broker"
)

// Broker is a [broker.Broker].
type Broker struct {
	url string

	mu   sync.Mutex
	conn *amqp.Connection
	out  *publisher
}

// publisher is a channel for publishing, with confirms.
type publisher struct {
	*amqp.Channel
	last     atomic.Int64
	flush    chan struct{} // received from when all returns so far are recorded
	ended    chan struct{}
	mu       sync.Mutex
	returned map[string]string // the reason, by correlation id
}

const dialTimeout = 10 * time.Second

// Open returns a broker for amqp://user:password@host:port/vhost or amqps://…. It
// connects when it is used.
func Open(u *url.URL) (*Broker, error) {
	if _, err := amqp.ParseURI(u.String()); err != nil {
		return nil, errors.New("this is not a URL such as amqp://user:password@host:5672/vhost")
	}
	return &Broker{url: u.String()}, nil
}

func (b *Broker) connect() (*amqp.Connection, error) {
	if b.conn != nil && !b.conn.IsClosed() {
		return b.conn, nil
	}
	b.out = nil
	conn, err := amqp.DialConfig(b.url, amqp.Config{Dial: amqp.DefaultDial(dialTimeout), Heartbeat: dialTimeout, Properties: amqp.Table{"connection_name": "posthaste"}})
	if err != nil {
		return nil, err
	}
	b.conn = conn
	return conn, nil
}

func (b *Broker) publisher() (*publisher, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	conn, err := b.connect()
	if err != nil {
		return nil, err
	}
	if b.out != nil && !b.out.IsClosed() {
		return b.out, nil
	}
	ch, err := conn.Channel()
	if err != nil {
		return nil, err
	}
	if err := ch.Confirm(false); err != nil {
		return nil, errors.Join(err, ch.Close())
	}
	b.out = &publisher{Channel: ch, flush: make(chan struct{}), ended: make(chan struct{}), returned: map[string]string{}}
	go b.out.note(ch.NotifyReturn(make(chan amqp.Return))) // unbuffered: a return is recorded before the confirm that follows it is read
	return b.out, nil
}

// note records returned messages.
func (p *publisher) note(returns <-chan amqp.Return) {
	defer close(p.ended)
	for {
		select {
		case r, more := <-returns:
			if !more {
				return
			}
			p.mu.Lock()
			p.returned[r.CorrelationId] = r.ReplyText
			p.mu.Unlock()
		case <-p.flush:
		}
	}
}

// back reports whether a confirmed message was returned, and the reason.
func (p *publisher) back(id string) (why string, back bool) {
	select {
	case p.flush <- struct{}{}:
	case <-p.ended:
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	why, back = p.returned[id]
	delete(p.returned, id)
	return why, back
}

// Publish implements [broker.Broker]. A message that reaches no queue is refused.
func (b *Broker) Publish(ctx context.Context, address string, m broker.Message) (string, error) {
	exchange, key, ok := strings.Cut(address, "/")
	if !ok {
		return "", fmt.Errorf("%w: the address %q is not exchange/routing.key", broker.ErrRefused, address)
	}
	ch, err := b.publisher()
	if err != nil {
		return "", err
	}
	headers := amqp.Table{}
	for k, v := range m.Header {
		headers[k] = v
	}
	// A returned message is confirmed as well, after the return.
	id := strconv.FormatInt(ch.last.Add(1), 10)
	confirmed, err := ch.PublishWithDeferredConfirmWithContext(ctx, exchange, key, true, false, amqp.Publishing{
		ContentType: "application/json", DeliveryMode: amqp.Persistent, MessageId: m.ID, CorrelationId: id, Timestamp: time.Now(), Headers: headers, Body: m.Body,
	})
	if err != nil {
		return "", err
	}
	stored, err := confirmed.WaitContext(ctx)
	why, back := ch.back(id)
	switch {
	case back:
		return "", fmt.Errorf("%w: no queue accepts the message: %s", broker.ErrRefused, why)
	case err != nil:
		return "", err
	case !stored:
		return "", errors.New("the broker did not store the message")
	}
	return fmt.Sprintf("exchange %q, routing key %q", exchange, key), nil
}

// Consume implements [broker.Broker].
func (b *Broker) Consume(ctx context.Context, queue string, take func(context.Context, broker.Message) error) error {
	b.mu.Lock()
	conn, err := b.connect()
	b.mu.Unlock()
	if err != nil {
		return err
	}
	ch, err := conn.Channel()
	if err != nil {
		return err
	}
	defer func() { _ = ch.Close() }()
	if err := ch.Qos(broker.AtOnce, 0, false); err != nil {
		return err
	}
	messages, err := ch.ConsumeWithContext(ctx, queue, "", false, false, false, false, nil)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	for msg := range messages {
		wg.Go(func() {
			switch err := take(ctx, message(&msg)); {
			case err == nil:
				_ = msg.Ack(false)
			case errors.Is(err, broker.ErrRefused):
				_ = msg.Nack(false, false)
			default:
				pause(ctx)
				_ = msg.Nack(false, true)
			}
		})
	}
	return errors.New("the channel was closed")
}

func pause(ctx context.Context) {
	t := time.NewTimer(time.Second)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

func message(d *amqp.Delivery) broker.Message {
	m := broker.Message{ID: d.MessageId, Time: d.Timestamp, Body: d.Body, Header: map[string]string{}}
	for k, v := range d.Headers {
		if text, ok := v.(string); ok {
			m.Header[k] = text
		}
	}
	return m
}

// Close ends the connection.
func (b *Broker) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.conn == nil || b.conn.IsClosed() {
		return nil
	}
	return b.conn.Close()
}
