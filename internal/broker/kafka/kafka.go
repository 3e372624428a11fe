// Package kafka exchanges messages with Kafka, Redpanda and other brokers that implement
// Kafka's protocol. An address is a topic. A source is the consumer group "posthaste", in order
// within a partition; refused messages are logged and skipped, because nothing else in their
// partition could be processed otherwise.
package kafka

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/posthaste-hq/posthaste/internal/broker"
)

// Broker is a [broker.Broker].
type Broker struct {
	options []kgo.Opt
	client  *kgo.Client // for publishing
}

const (
	group        = "posthaste"
	firstPause   = 20 * time.Millisecond
	longestPause = time.Second
)

// Open returns a broker for kafka://user:password@host1:9092,host2:9092, or kafka+tls://….
// The parameter mechanism is plain (the default), scram-sha-256 or scram-sha-512. It
// connects when it is used.
func Open(u *url.URL) (*Broker, error) {
	b := &Broker{options: []kgo.Opt{kgo.SeedBrokers(strings.Split(u.Host, ",")...), kgo.ClientID("posthaste")}}
	if u.Scheme == "kafka+tls" {
		b.options = append(b.options, kgo.DialTLSConfig(&tls.Config{MinVersion: tls.VersionTLS12}))
	}
	if u.User != nil {
		password, _ := u.User.Password()
		auth, err := mechanism(u.Query().Get("mechanism"), u.User.Username(), password)
		if err != nil {
			return nil, err
		}
		b.options = append(b.options, kgo.SASL(auth))
	}
	var err error
	// The record's key is the event's id; all in-sync replicas must acknowledge the record.
	b.client, err = kgo.NewClient(append(b.options, kgo.RequiredAcks(kgo.AllISRAcks()), kgo.ProducerLinger(0))...)
	return b, err
}

func mechanism(name, user, password string) (sasl.Mechanism, error) {
	switch name {
	case "", "plain":
		return plain.Auth{User: user, Pass: password}.AsMechanism(), nil
	case "scram-sha-256":
		return scram.Auth{User: user, Pass: password}.AsSha256Mechanism(), nil
	case "scram-sha-512":
		return scram.Auth{User: user, Pass: password}.AsSha512Mechanism(), nil
	}
	return nil, fmt.Errorf("mechanism %q: use plain, scram-sha-256 or scram-sha-512", name)
}

// Publish implements [broker.Broker].
func (b *Broker) Publish(ctx context.Context, topic string, m broker.Message) (string, error) {
	r := &kgo.Record{Topic: topic, Key: []byte(m.ID), Value: m.Body}
	for k, v := range m.Header {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: k, Value: []byte(v)})
	}
	err := b.client.ProduceSync(ctx, r).FirstErr()
	switch {
	case errors.Is(err, kerr.UnknownTopicOrPartition), errors.Is(err, kerr.InvalidTopicException), errors.Is(err, kerr.MessageTooLarge):
		return "", fmt.Errorf("%w: %w", broker.ErrRefused, err)
	case err != nil:
		return "", err
	}
	return fmt.Sprintf("topic %s, partition %d, offset %d", r.Topic, r.Partition, r.Offset), nil
}

// Consume implements [broker.Broker].
func (b *Broker) Consume(ctx context.Context, topic string, take func(context.Context, broker.Message) error) error {
	client, err := kgo.NewClient(append(b.options, kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(), kgo.BlockRebalanceOnPoll(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
	if err != nil {
		return err
	}
	defer client.CloseAllowingRebalance()
	for {
		fetches := client.PollRecords(ctx, broker.AtOnce*16)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var wg sync.WaitGroup
		fetches.EachPartition(func(p kgo.FetchTopicPartition) {
			wg.Go(func() {
				for _, r := range p.Records {
					if !insist(ctx, func() error { return take(ctx, message(r)) }) {
						return
					}
				}
			})
		})
		wg.Wait()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := errors.Join(fetches.Err0(), client.CommitUncommittedOffsets(ctx)); err != nil {
			return err
		}
		client.AllowRebalance()
	}
}

// insist calls take until the message is accepted or refused. It reports false if ctx ended
// first.
func insist(ctx context.Context, take func() error) bool {
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		if err := take(); err == nil || errors.Is(err, broker.ErrRefused) {
			return true
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return false
		}
	}
}

func message(r *kgo.Record) broker.Message {
	m := broker.Message{ID: fmt.Sprintf("%s/%d/%d", r.Topic, r.Partition, r.Offset), Time: r.Timestamp, Body: r.Value, Header: map[string]string{}}
	for _, h := range r.Headers {
		m.Header[h.Key] = string(h.Value)
	}
	return m
}

// Close ends the connections.
func (b *Broker) Close() error {
	b.client.Close()
	return nil
}
