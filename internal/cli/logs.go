package cli

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/spf13/cobra"
)

func logsCommand(getenv func(string) (string, bool)) *cobra.Command {
	cmd := &cobra.Command{Use: "logs", Short: "Show API requests"}
	get := talkFor(cmd, getenv)
	var failed bool
	tail := &cobra.Command{
		Use:     "tail",
		Short:   "Print the API requests of the account as they arrive",
		Example: "  posthaste logs tail --failed",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := get()
			if err != nil {
				return err
			}
			req, err := http.NewRequestWithContext(cmd.Context(), http.MethodGet, c.base+"/v1/logs/tail", http.NoBody)
			if err != nil {
				return err
			}
			if err := c.authorize(cmd.Context(), req); err != nil {
				return err
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				return fmt.Errorf("no answer from %s: %w", c.base, err)
			}
			defer func() { _ = resp.Body.Close() }()
			if resp.StatusCode != http.StatusOK {
				text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
				return refusal(resp.StatusCode, text)
			}
			_, _ = fmt.Fprintln(c.errs, "Waiting for requests. ^C to quit.")
			lines := bufio.NewScanner(resp.Body)
			for lines.Scan() {
				if len(lines.Bytes()) == 0 {
					continue
				}
				if err := c.request(lines.Bytes(), failed); err != nil {
					return err
				}
			}
			if cmd.Context().Err() != nil {
				return nil
			}
			return fmt.Errorf("the server ended the connection")
		},
	}
	tail.Flags().BoolVar(&failed, "failed", false, "only failed requests")
	cmd.AddCommand(tail)
	return cmd
}

// request prints one request.
func (c *client) request(line []byte, failed bool) error {
	var r struct {
		Created      int64
		Method, Path string
		Status       int
		DurationMS   float64 `json:"duration_ms"`
		RequestID    string  `json:"request_id"`
		Error        string
	}
	if err := json.Unmarshal(line, &r); err != nil {
		return err
	}
	if failed && r.Status < 400 {
		return nil
	}
	if c.json {
		_, err := fmt.Fprintln(c.out, string(line))
		return err
	}
	why := ""
	if r.Error != "" {
		why = " " + r.Error
	}
	_, err := fmt.Fprintf(c.out, "%s [%d] %s %s [%s] %.1f ms%s\n", time.Unix(r.Created, 0).Format(clockFormat), r.Status, r.Method, r.Path, r.RequestID, r.DurationMS, why)
	return err
}
