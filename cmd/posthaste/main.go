// Command posthaste delivers webhooks: it accepts events, keeps them, and hands
// each to every endpoint that wants it until it is acknowledged.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/posthaste-hq/posthaste/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := cli.Run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
