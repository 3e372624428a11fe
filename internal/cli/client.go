package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/posthaste-hq/posthaste/internal/config"
	"github.com/posthaste-hq/posthaste/internal/weburl"
)

// profile is a server with an API key.
type profile struct {
	Server string `yaml:"server"`
	APIKey string `yaml:"api_key"`
}

// profiles is the configuration file of the client commands.
type profiles struct {
	Profiles map[string]profile `yaml:"profiles"`
}

const (
	defaultServer  = "http://127.0.0.1:8080"
	defaultProfile = "default"
)

func profilesPath(getenv func(string) (string, bool)) (string, error) {
	if dir, ok := getenv("XDG_CONFIG_HOME"); ok && dir != "" {
		return filepath.Join(dir, "posthaste", "config.yaml"), nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("find the configuration directory: %w", err)
	}
	return filepath.Join(dir, "posthaste", "config.yaml"), nil
}

func readProfiles(path string) (p profiles, err error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return profiles{Profiles: map[string]profile{}}, nil
	}
	if err != nil {
		return p, fmt.Errorf("read profiles: %w", err)
	}
	if err := yaml.Unmarshal(text, &p); err != nil {
		return p, fmt.Errorf("read profiles in %s: %w", path, err)
	}
	if p.Profiles == nil {
		p.Profiles = map[string]profile{}
	}
	return p, nil
}

// client is a client of a server's API.
type client struct {
	base    string
	key     string
	account string // of an operator's call; empty: the key's own
	live    bool   // in live mode
	brand   string // of the headers, once known
	ifMatch string // ETag required by edits; empty: any
	etag    string // of the last response
	json    bool   // print responses unchanged
	out     io.Writer
	errs    io.Writer
}

// talk adds the flags that select a server to a command, and returns a function that creates
// the client: a flag takes precedence over the environment, and the environment over the
// profile.
func talk(cmd *cobra.Command, getenv func(string) (string, bool)) func() (*client, error) {
	return connect(cmd, getenv, func() bool { return false })
}

// talkAsOperator is talk for commands that need an operator key.
func talkAsOperator(cmd *cobra.Command, getenv func(string) (string, bool)) func() (*client, error) {
	return connect(cmd, getenv, func() bool { return true })
}

// talkFor is talk for commands in an account's data, which operators must name.
func talkFor(cmd *cobra.Command, getenv func(string) (string, bool)) func() (*client, error) {
	account := cmd.PersistentFlags().String("account", "", "with an operator key: the account to act for, acct_…")
	live := cmd.PersistentFlags().Bool("live", false, "with an operator key: act in live mode (default: test mode)")
	get := connect(cmd, getenv, func() bool { return *account != "" })
	return func() (*client, error) {
		c, err := get()
		if err != nil {
			return nil, err
		}
		if *live && *account == "" {
			return nil, &config.Usage{Err: errors.New("--live requires --account: the mode of an account's own key is fixed")}
		}
		c.account, c.live = *account, *live
		return c, nil
	}
}

// connect is talk; operator requires an operator key.
func connect(cmd *cobra.Command, getenv func(string) (string, bool), operator func() bool) func() (*client, error) {
	f := cmd.PersistentFlags()
	server := f.String("server", "", "server URL, such as http://127.0.0.1:8080 (or POSTHASTE_SERVER)")
	key := f.String("api-key", "", "API key; flags are visible in process lists, so prefer POSTHASTE_API_KEY or posthaste login")
	name := f.String("profile", "", "profile of posthaste login (or POSTHASTE_PROFILE)")
	asJSON := f.Bool("json", false, "print results as JSON")
	return func() (*client, error) {
		first := func(values ...string) string {
			for _, v := range values {
				if v != "" {
					return v
				}
			}
			return ""
		}
		env := func(name string) string { v, _ := getenv(config.EnvPrefix + name); return v }
		path, err := profilesPath(getenv)
		if err != nil {
			return nil, err
		}
		all, err := readProfiles(path)
		if err != nil {
			return nil, err
		}
		wanted := first(*name, env("PROFILE"), defaultProfile)
		p, known := all.Profiles[wanted]
		if !known && wanted != defaultProfile {
			return nil, &config.Usage{Err: fmt.Errorf("profile %q does not exist in %s; create it with: posthaste login --profile %s", wanted, path, wanted)}
		}
		base, err := serverURL(first(*server, env("SERVER"), p.Server, defaultServer))
		if err != nil {
			return nil, err
		}
		c := &client{base: base, key: first(*key, env("API_KEY"), p.APIKey, env("TEST_KEY")),
			json: *asJSON, out: cmd.OutOrStdout(), errs: cmd.ErrOrStderr()}
		if operator() {
			c.key = first(*key, env("ADMIN_KEY"), c.key)
		}
		if c.key == "" {
			return nil, &config.Usage{Err: errors.New("no API key: set POSTHASTE_API_KEY, or log in with: posthaste login")}
		}
		return c, nil
	}
}

// serverURL returns the normalized URL of a server, without a trailing slash.
func serverURL(raw string) (string, error) {
	u, err := weburl.Normalize(raw)
	switch {
	case err == nil:
		return strings.TrimSuffix(u, "/"), nil
	case raw != "" && !strings.Contains(raw, "://"):
		return "", &config.Usage{Err: fmt.Errorf("the server URL %[1]q has no scheme: use https://%[1]s or, for a server on this machine, http://%[1]s", raw)}
	}
	return "", &config.Usage{Err: fmt.Errorf("the server URL %q is invalid: %w", raw, err)}
}

// apiError is an error response of the server.
type apiError struct {
	status  int
	code    string
	message string
	param   string
	body    []byte
}

func (e *apiError) Error() string {
	s := fmt.Sprintf("the server answered %d", e.status)
	if e.message != "" {
		s += ": " + e.message
	}
	if e.param != "" {
		s += " (" + e.param + ")"
	}
	return s
}

const callTimeout = time.Minute

// call makes a request. body is encoded as JSON unless it is nil or bytes already.
func (c *client) call(ctx context.Context, method, path string, body any) (json.RawMessage, error) {
	var r io.Reader = http.NoBody
	switch b := body.(type) {
	case nil:
	case []byte:
		r = bytes.NewReader(b)
	default:
		raw, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		r = bytes.NewReader(raw)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, r)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	if err := c.authorize(ctx, req); err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.ifMatch != "" {
		req.Header.Set("If-Match", c.ifMatch)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("no answer from %s: %w", c.base, err)
	}
	defer func() { _ = resp.Body.Close() }()
	c.etag = resp.Header.Get("ETag")
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("read the answer of %s: %w", c.base, err)
	}
	if resp.StatusCode/100 == 2 {
		return text, nil
	}
	return nil, refusal(resp.StatusCode, text)
}

// refusal parses an error response.
func refusal(status int, text []byte) error {
	var said struct {
		Error struct{ Code, Message, Param string }
	}
	_ = json.Unmarshal(text, &said)
	if said.Error.Code == "account_missing" {
		said.Error.Message += " On the command line: --account acct_…; posthaste accounts list shows the accounts."
	}
	return &apiError{status, said.Error.Code, said.Error.Message, said.Error.Param, text}
}

// authorize adds the key to a request and, for an operator's, the account and mode.
func (c *client) authorize(ctx context.Context, req *http.Request) error {
	req.Header.Set("Authorization", "Bearer "+c.key)
	if c.account == "" {
		return nil
	}
	if c.brand == "" { // the headers contain the server's brand
		var err error
		if c.brand, err = c.brandOf(ctx); err != nil {
			return err
		}
	}
	req.Header.Set(c.brand+"-Account", c.account)
	if c.live {
		req.Header.Set(c.brand+"-Mode", "live")
	}
	return nil
}

// brandOf returns the brand of the server's headers.
func (c *client) brandOf(ctx context.Context) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+"/v1/meta", http.NoBody)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", fmt.Errorf("no answer from %s: %w", c.base, err)
	}
	defer func() { _ = resp.Body.Close() }()
	var meta struct {
		Header string `json:"signature_header"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&meta); err != nil {
		return "", fmt.Errorf("read the brand of %s: %w", c.base, err)
	}
	brand, ok := strings.CutSuffix(meta.Header, "-Signature")
	if !ok {
		return "", fmt.Errorf("%s does not report its brand", c.base)
	}
	return brand, nil
}

// progress shows the progress of long work on a terminal.
func (c *client) progress(total int, what string) *progressbar.ProgressBar {
	return progressBar(c.errs, total, what)
}

func progressBar(errs io.Writer, total int, what string) *progressbar.ProgressBar {
	out := errs
	if total < 10 || !isTerminal(errs) {
		out = io.Discard
	}
	return progressbar.NewOptions(total, progressbar.OptionSetWriter(out), progressbar.OptionSetDescription(what), progressbar.OptionShowCount(),
		progressbar.OptionClearOnFinish(), progressbar.OptionThrottle(100*time.Millisecond))
}

// show prints an object, indented.
func (c *client) show(raw json.RawMessage) error {
	var b bytes.Buffer
	if err := json.Indent(&b, raw, "", "  "); err != nil {
		return err
	}
	_, err := fmt.Fprintln(c.out, b.String())
	return err
}

func loginCommand(getenv func(string) (string, bool)) *cobra.Command {
	var server, key, name string
	cmd := &cobra.Command{
		Use:   "login",
		Short: "Save a server address and an API key as a profile",
		Long:  "Save a server and an API key for other commands, after checking them. The key is read from\nstandard input unless --api-key or POSTHASTE_API_KEY is set.",
		Example: "  echo $KEY | posthaste login --server https://webhooks.example.com\n" +
			"  posthaste login --profile staging --server https://staging.example.com",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if key == "" {
				key, _ = getenv(config.EnvPrefix + "API_KEY")
			}
			if key == "" {
				_, _ = fmt.Fprint(cmd.ErrOrStderr(), "API key: ")
				if _, err := fmt.Fscanln(cmd.InOrStdin(), &key); err != nil {
					return &config.Usage{Err: fmt.Errorf("read the API key: %w", err)}
				}
			}
			base, err := serverURL(server)
			if err != nil {
				return err
			}
			c := &client{base: base, key: strings.TrimSpace(key)}
			raw, err := c.call(cmd.Context(), http.MethodGet, "/v1/account", nil)
			if err != nil {
				return err
			}
			path, err := profilesPath(getenv)
			if err != nil {
				return err
			}
			all, err := readProfiles(path)
			if err != nil {
				return err
			}
			all.Profiles[name] = profile{c.base, c.key}
			text, err := yaml.Marshal(all)
			if err != nil {
				return err
			}
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				return fmt.Errorf("write profiles: %w", err)
			}
			if err := os.WriteFile(path, text, 0o600); err != nil {
				return fmt.Errorf("write profiles: %w", err)
			}
			var who struct {
				Account  *struct{ ID, Name string }
				Livemode bool
			}
			if err := json.Unmarshal(raw, &who); err != nil {
				return err
			}
			account := "as the operator"
			if who.Account != nil {
				account = "to " + who.Account.ID + " " + who.Account.Name
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "Logged in %s. Profile %q is in %s.\n", account, name, path)
			return err
		},
	}
	cmd.Flags().StringVar(&server, "server", defaultServer, "the server")
	cmd.Flags().StringVar(&key, "api-key", "", "the API key")
	cmd.Flags().StringVar(&name, "profile", defaultProfile, "name of the profile")
	return cmd
}
