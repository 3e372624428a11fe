package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/posthaste-hq/posthaste/internal/broker"
	"github.com/posthaste-hq/posthaste/internal/broker/kafka"
	"github.com/posthaste-hq/posthaste/internal/broker/natsjs"
	"github.com/posthaste-hq/posthaste/internal/broker/rabbitmq"
	"github.com/posthaste-hq/posthaste/internal/config"
	"github.com/posthaste-hq/posthaste/internal/fault"
)

// openBrokers creates the operator's brokers, and parses the sources.
func (s *server) openBrokers() error {
	specs, err := broker.ParseSpecs(s.Brokers)
	if err != nil {
		return &config.Usage{Err: fmt.Errorf("--brokers: %w", err)}
	}
	s.brokers = broker.Named{}
	for _, spec := range specs {
		if s.brokers[spec.Name], err = openBroker(spec); err != nil {
			return &config.Usage{Err: fmt.Errorf("--brokers: %s: %w", spec.Name, err)}
		}
	}
	if s.sources, err = broker.ParseSources(s.Sources); err != nil {
		return &config.Usage{Err: fmt.Errorf("--sources: %w", err)}
	}
	for _, source := range s.sources {
		if s.brokers[source.Broker] == nil {
			return &config.Usage{Err: fmt.Errorf("--sources: no broker is named %q in --brokers", source.Broker)}
		}
	}
	return nil
}

func openBroker(spec broker.Spec) (broker.Broker, error) {
	switch spec.URL.Scheme {
	case "nats", "tls":
		return natsjs.Open(spec.URL)
	case "amqp", "amqps":
		return rabbitmq.Open(spec.URL)
	case "kafka", "kafka+tls":
		return kafka.Open(spec.URL)
	}
	return nil, fmt.Errorf("%s:// is none of nats://, tls:// (NATS), amqp://, amqps:// (RabbitMQ), kafka:// and kafka+tls://", spec.URL.Scheme)
}

func (s *server) hasBroker(name string) bool { return s.brokers[name] != nil }

func (s *server) closeBrokers() (err error) {
	for _, b := range s.brokers {
		if b != nil {
			err = errors.Join(err, b.Close())
		}
	}
	return err
}

// take stores a message of a source.
func (s *server) take(ctx context.Context, source broker.SourceSpec, key string, body []byte) error {
	err := s.service.TakeEvent(ctx, source.Account, source.Live, key, body)
	if fault.Is(err, fault.Invalid) || fault.Is(err, fault.IdempotencyMismatch) {
		err = fmt.Errorf("%w: %w", broker.ErrRefused, err)
	}
	s.metrics.Message(source.Broker, errors.Is(err, broker.ErrRefused), err)
	return err
}

// interrupted records that the connection to a source was interrupted.
func (s *server) interrupted(source broker.SourceSpec) { s.metrics.Interrupted(source.Broker) }
