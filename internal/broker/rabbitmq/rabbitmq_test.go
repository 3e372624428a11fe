package rabbitmq_test

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/posthaste-hq/posthaste/internal/broker/brokertest"
	"github.com/posthaste-hq/posthaste/internal/broker/rabbitmq"
)

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

// run starts a RabbitMQ server with a queue, and an Erlang name service for it.
func run(t *testing.T) *url.URL {
	t.Helper()
	if testing.Short() {
		t.Skip("needs RabbitMQ, which make test-fast does without")
	}
	const program = "/usr/lib/rabbitmq/bin/rabbitmq-server"
	if _, err := os.Stat(program); err != nil {
		t.Fatalf("RabbitMQ is not installed; make test installs it (package rabbitmq-server): %v", err)
	}
	dir, port, names := t.TempDir(), freePort(t), freePort(t)
	env := append(os.Environ(), "HOME="+dir, "ERL_EPMD_PORT="+names, "ERL_EPMD_ADDRESS=127.0.0.1", "RABBITMQ_NODENAME=posthaste"+port+"@localhost", "RABBITMQ_NODE_PORT="+port,
		"RABBITMQ_NODE_IP_ADDRESS=127.0.0.1", "RABBITMQ_DIST_PORT="+freePort(t), "RABBITMQ_MNESIA_BASE="+dir, "RABBITMQ_LOG_BASE="+dir, "RABBITMQ_LOGS=-",
		"RABBITMQ_ENABLED_PLUGINS_FILE="+filepath.Join(dir, "plugins"), "RABBITMQ_CONFIG_FILE="+filepath.Join(dir, "none"), "RABBITMQ_CONF_ENV_FILE="+filepath.Join(dir, "none.conf"))
	log, err := os.Create(filepath.Join(dir, "output"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	for _, args := range [][]string{{"epmd", "-port", names, "-address", "127.0.0.1"}, {program}} {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Env, cmd.Stdout, cmd.Stderr = env, log, log
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // the script and its child processes
			_ = cmd.Wait()
		})
	}
	u := &url.URL{Scheme: "amqp", User: url.UserPassword("guest", "guest"), Host: "127.0.0.1:" + port, Path: "/"}
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := amqp.Dial(u.String())
		if err == nil {
			defer func() { _ = conn.Close() }()
			ch, err := conn.Channel()
			if err == nil {
				_, err = ch.QueueDeclare("payments", true, false, false, false, nil)
			}
			if err != nil {
				t.Fatal(err)
			}
			return u
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			text, _ := os.ReadFile(log.Name())
			t.Fatal(fmt.Errorf("%w\n%s", err, text))
		}
	}
}

func TestBroker(t *testing.T) {
	b, err := rabbitmq.Open(run(t))
	if err != nil {
		t.Fatal(err)
	}
	brokertest.Run(t, &brokertest.Setup{Broker: b, Sink: "/payments", Source: "payments", Nowhere: "/no-queue"})
}
