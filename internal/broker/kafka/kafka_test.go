package kafka_test

import (
	"net/url"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/posthaste-hq/posthaste/internal/broker/brokertest"
	"github.com/posthaste-hq/posthaste/internal/broker/kafka"
)

// The tests use a server with Kafka's protocol that keeps records in memory, because Kafka
// itself needs Java.
func TestBroker(t *testing.T) {
	c, err := kfake.NewCluster(kfake.NumBrokers(3), kfake.SeedTopics(4, "payments"), kfake.EnableSASL(), kfake.Superuser("PLAIN", "u", "p"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	b, err := kafka.Open(&url.URL{Scheme: "kafka", Host: c.ListenAddrs()[0], User: url.UserPassword("u", "p")})
	if err != nil {
		t.Fatal(err)
	}
	brokertest.Run(t, &brokertest.Setup{Broker: b, Sink: "payments", Source: "payments", Skips: true})
}
