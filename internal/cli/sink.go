package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/posthaste-hq/posthaste/internal/config"
	"github.com/posthaste-hq/posthaste/webhook"
)

func sinkCommand(getenv func(string) (string, bool)) *cobra.Command {
	var addr string
	var status, failFirst int
	var delay time.Duration
	var hang, showBody bool
	var asJSON *bool
	cmd := &cobra.Command{
		Use:   "sink",
		Short: "Run a test receiver that verifies and prints deliveries; can simulate failures",
		Long:  "Run a test receiver. With WEBHOOK_SECRET (several separated by commas) it verifies each delivery and responds\nwith 401 to invalid ones.",
		Example: "  WEBHOOK_SECRET=whsec_… posthaste sink --addr 127.0.0.1:3000\n" +
			"  posthaste sink --fail-first 3      # 500 three times, then 200\n" +
			"  posthaste sink --delay 20s         # longer than the sender's timeout",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if status < 200 || status > 599 || failFirst < 0 || delay < 0 {
				return &config.Usage{Err: errors.New("--status is 200 to 599, --fail-first and --delay 0 or more")}
			}
			var v *webhook.Verifier
			if secret, _ := getenv("WEBHOOK_SECRET"); secret != "" {
				var err error
				if v, err = webhook.NewVerifier(strings.Split(secret, ",")...); err != nil {
					return &config.Usage{Err: fmt.Errorf("WEBHOOK_SECRET: %w", err)}
				}
			}
			var count atomic.Int64
			var mu sync.Mutex // one line after the other
			handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 64<<20))
				if err != nil {
					return
				}
				code, genuine := status, "not verified"
				if int(count.Add(1)) <= failFirst {
					code = http.StatusInternalServerError
				}
				if v != nil {
					if genuine = "genuine"; v.Verify(r.Header, body) != nil {
						code, genuine = http.StatusUnauthorized, "NOT GENUINE"
					}
				}
				wait := delay
				if hang {
					wait = time.Hour
				}
				select {
				case <-time.After(wait):
				case <-r.Context().Done():
					_, _ = fmt.Fprintf(cmd.OutOrStdout(), "%s %s client disconnected\n", time.Now().Format(clockFormat), r.Header.Get(webhook.IDHeader))
					return
				}
				w.WriteHeader(code)
				id, typ := r.Header.Get(webhook.IDHeader), eventTypeOf(body)
				line := map[string]any{"event": id, "type": typ, "bytes": len(body), "verified": genuine, "status": code}
				if showBody {
					line["body"] = string(body)
				}
				mu.Lock()
				defer mu.Unlock()
				_ = result(cmd, *asJSON, line, "%s %s %s %d bytes, %s, answered %d", time.Now().Format(clockFormat), id, typ, len(body), genuine, code)
				if showBody && !*asJSON {
					_, _ = fmt.Fprintf(cmd.OutOrStdout(), "%s\n", body)
				}
			})
			l, err := (&net.ListenConfig{}).Listen(cmd.Context(), "tcp", addr)
			if err != nil {
				return fmt.Errorf("listen on %s: %w", addr, err)
			}
			_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "Listening on http://%s (^C to quit)\n", l.Addr())
			srv := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, BaseContext: func(net.Listener) context.Context { return cmd.Context() }}
			stop := context.AfterFunc(cmd.Context(), func() { _ = srv.Close() })
			defer stop()
			if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("serve: %w", err)
			}
			return nil
		},
	}
	asJSON = jsonFlag(cmd)
	f := cmd.Flags()
	f.StringVar(&addr, "addr", "127.0.0.1:3000", "address to listen on")
	f.IntVar(&status, "status", http.StatusOK, "respond with this status code")
	f.IntVar(&failFirst, "fail-first", 0, "respond with 500 to this many requests first")
	f.DurationVar(&delay, "delay", 0, "delay each response by this long")
	f.BoolVar(&hang, "hang", false, "never respond")
	f.BoolVar(&showBody, "show-body", false, "print request bodies")
	return cmd
}
