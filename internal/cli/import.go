package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/posthaste-hq/posthaste/internal/config"
	"github.com/posthaste-hq/posthaste/internal/peer"
	"github.com/posthaste-hq/posthaste/internal/weburl"
)

func importCommand(getenv func(string) (string, bool)) *cobra.Command {
	var from string
	var dry bool
	cmd := &cobra.Command{
		Use:   "import [FILE]",
		Short: "Register the endpoints exported from another webhook server",
		Long: "Register the endpoints of another webhook server, as its API lists them, with their secrets, so that receivers\n" +
			"need no new ones. FILE contains the API's responses, one after the other; the default, or -, is standard input.\n" +
			"Settings that cannot be kept are printed with the reason; their endpoint is registered disabled, and the exit code\n" +
			"is 1, also of a dry run. Secrets are never printed. An endpoint created by an earlier import is not changed.",
		Example: "  posthaste import --from svix endpoints.json --dry-run\n" +
			"  cat endpoints.json subscriptions.json | posthaste import --from convoy",
		Args: cobra.MaximumNArgs(1),
	}
	get := talkFor(cmd, getenv)
	cmd.Flags().StringVar(&from, "from", "", "kind of the other server: "+strings.Join(peer.Peers(), ", "))
	cmd.Flags().BoolVar(&dry, "dry-run", false, "print the changes without making them")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := get()
		if err != nil {
			return err
		}
		in := cmd.InOrStdin()
		if len(args) == 1 && args[0] != "-" {
			f, err := os.Open(args[0])
			if err != nil {
				return fmt.Errorf("read the export: %w", err)
			}
			defer func() { _ = f.Close() }()
			in = f
		}
		found, err := readExport(from, in)
		if err != nil {
			return err
		}
		return c.importAll(cmd, from, found, dry)
	}
	return cmd
}

func readExport(from string, in io.Reader) ([]*peer.Endpoint, error) {
	found, err := peer.Read(from, in)
	switch {
	case err != nil:
		return nil, &config.Usage{Err: err}
	case len(found) == 0:
		return nil, &config.Usage{Err: errors.New("the export contains no endpoint")}
	}
	return found, nil
}

// imported is the result for one endpoint of an export.
type imported struct {
	From   string      `json:"from"` // its id on the other server
	ID     string      `json:"id"`   // on this server; empty if there is none
	URL    string      `json:"url"`  // without the query, which may be a credential
	Events []string    `json:"enabled_events"`
	Secret string      `json:"secret"` // kept, new or none
	Status string      `json:"status"`
	Result string      `json:"result"` // created, would create, exists, skipped or refused
	Why    string      `json:"why,omitempty"`
	Lost   []peer.Loss `json:"not_carried_over,omitempty"`
	Notes  []peer.Loss `json:"notes,omitempty"`
}

// importAll registers missing endpoints, and prints the result of each. One that the server
// refuses does not affect the others.
func (c *client) importAll(cmd *cobra.Command, from string, found []*peer.Endpoint, dry bool) error {
	there, err := c.origins(cmd)
	if err != nil {
		return err
	}
	bar := c.progress(len(found), "endpoints")
	defer func() { _ = bar.Exit() }()
	rows := make([]imported, 0, len(found))
	var stopped error
	for _, e := range found {
		row := imported{From: e.ID, URL: withoutQuery(e.URL), Events: e.Events, Secret: "none", Status: "-", Lost: e.Lost, Notes: e.Notes}
		origin := from + ":" + e.ID
		switch id := there[origin]; {
		case e.Skip != "":
			row.Result, row.Why = "skipped", e.Skip
		case id != "":
			row.Result, row.ID, row.Lost, row.Notes = "exists", id, nil, nil
		default:
			if err := c.importOne(cmd, origin, e, dry, &row); err != nil {
				var said *apiError
				if !errors.As(err, &said) || said.status != http.StatusBadRequest && said.status != http.StatusUnprocessableEntity {
					stopped = fmt.Errorf("register %s: %w", origin, err) // the others would fail in the same way
				}
				row.Result, row.Why = "refused", err.Error()
			}
		}
		rows = append(rows, row)
		if stopped != nil {
			break
		}
		_ = bar.Add(1)
	}
	if err := c.showImport(rows); err != nil {
		return err
	}
	return errors.Join(stopped, incomplete(rows))
}

// incomplete returns an error with the number of endpoints that were not imported completely,
// nil if there are none.
func incomplete(rows []imported) error {
	absent, disabled := 0, 0
	for _, r := range rows {
		switch {
		case r.Why != "":
			absent++
		case len(r.Lost) > 0:
			disabled++
		}
	}
	if absent+disabled == 0 {
		return nil
	}
	return fmt.Errorf("of %d endpoints, %d cannot be registered, and %d are registered disabled because some of their settings cannot be kept", len(rows), absent, disabled)
}

func (c *client) importOne(cmd *cobra.Command, origin string, e *peer.Endpoint, dry bool, row *imported) error {
	row.Secret, row.Status = "new", "enabled"
	if e.Secret != "" {
		row.Secret = "kept"
	}
	if e.Disabled {
		row.Status = "disabled"
	}
	if dry {
		row.Result = "would create"
		return nil
	}
	raw, err := c.call(cmd.Context(), http.MethodPost, "/v1/webhooks", registration(origin, e, row.Status))
	if err != nil {
		return err
	}
	var made struct{ ID string }
	if err := json.Unmarshal(raw, &made); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	row.Result, row.ID = "created", made.ID
	return nil
}

func registration(origin string, e *peer.Endpoint, status string) map[string]any {
	metadata := map[string]string{peer.Origin: origin}
	for k, v := range e.Metadata {
		metadata[k] = v
	}
	body := map[string]any{"url": e.URL, "enabled_events": e.Events, "description": e.Description, "metadata": metadata, "status": status}
	if e.Secret != "" {
		body["secret"] = e.Secret
	}
	if e.Scheme != "" {
		body["signature_schemes"] = []string{e.Scheme}
	}
	if len(e.Headers) > 0 {
		body["headers"] = e.Headers
	}
	if e.Rate > 0 {
		body["rate_limit"] = e.Rate
	}
	if e.Timeout > 0 {
		body["timeout"] = e.Timeout
	}
	switch {
	case e.Basic != nil:
		body["authentication"] = map[string]any{"type": "basic", "username": e.Basic.User, "password": e.Basic.Password}
	case e.OAuth != nil:
		body["authentication"] = map[string]any{"type": "oauth2", "grant_type": "client_credentials", "token_url": e.OAuth.TokenURL,
			"client_id": e.OAuth.ClientID, "client_secret": e.OAuth.ClientSecret, "scope": e.OAuth.Scope}
	}
	return body
}

// origins returns the endpoints created by imports, by their origin.
func (c *client) origins(cmd *cobra.Command) (map[string]string, error) {
	there := map[string]string{}
	for after := ""; ; {
		raw, err := c.call(cmd.Context(), http.MethodGet, "/v1/webhooks?limit=100"+after, nil)
		if err != nil {
			return nil, fmt.Errorf("list endpoints: %w", err)
		}
		var page struct {
			Data []struct {
				ID       string
				Metadata map[string]string
			}
			HasMore bool `json:"has_more"`
		}
		if err := json.Unmarshal(raw, &page); err != nil {
			return nil, fmt.Errorf("list endpoints: %w", err)
		}
		for _, e := range page.Data {
			if origin := e.Metadata[peer.Origin]; origin != "" {
				there[origin] = e.ID
			}
		}
		if !page.HasMore || len(page.Data) == 0 {
			return there, nil
		}
		after = "&starting_after=" + url.QueryEscape(page.Data[len(page.Data)-1].ID)
	}
}

func (c *client) showImport(rows []imported) error {
	if c.json {
		raw, err := json.Marshal(map[string]any{"object": "import", "data": rows})
		if err != nil {
			return err
		}
		return c.show(raw)
	}
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "FROM\tURL\tEVENTS\tSECRET\tSTATUS\tRESULT")
	for _, r := range rows {
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", printable(r.From), printable(r.URL), strings.Join(r.Events, ","), r.Secret, r.Status, strings.TrimSpace(r.Result+" "+r.ID))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, r := range rows {
		if r.Why != "" {
			_, _ = fmt.Fprintf(c.out, "%s %s: %s\n", printable(r.From), r.Result, r.Why)
		}
	}
	return c.showLosses(rows)
}

// showLosses prints a table of the settings that were not kept, and of those that were omitted
// without an effect on deliveries.
func (c *client) showLosses(rows []imported) error {
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	title := "\nFROM\tSETTING\tRESULT\tREASON\n"
	show := func(from, result string, settings []peer.Loss) {
		for _, l := range settings {
			_, _ = fmt.Fprintf(w, "%s%s\t%s\t%s\t%s\n", title, printable(from), l.Field, result, l.Why)
			title = ""
		}
	}
	for _, r := range rows {
		show(r.From, "lost", r.Lost)
		show(r.From, "not needed", r.Notes)
	}
	return w.Flush()
}

func withoutQuery(raw string) string {
	u, err := url.Parse(weburl.Respell(raw))
	if err != nil {
		return "(not a URL)"
	}
	u.User = nil
	if u.RawQuery != "" {
		u.RawQuery = "…"
	}
	u.Fragment = ""
	return u.String()
}

// printable makes foreign text safe for a terminal: an export must not move the cursor.
func printable(s string) string {
	if s == "" {
		return "-"
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return '?'
		}
		return r
	}, s)
}
