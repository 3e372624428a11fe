package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/posthaste-hq/posthaste/internal/config"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/webhook"
)

func verifyCommand(getenv func(string) (string, bool)) *cobra.Command {
	var headers []string
	var body, at, brand string
	var asJSON *bool
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Verify a captured delivery against a secret and explain what is wrong",
		Long: "Verify a captured delivery. WEBHOOK_SECRET is the secret or public key (whpk_…); separate several by commas.\n" +
			"Headers are set with --header, or precede the body, as in a recorded request. In a recorded request, line\n" +
			"ends that an editor changed or added are restored and reported.",
		Example: "  WEBHOOK_SECRET=whsec_… posthaste verify --body body.json --header 'webhook-id: evt_…' \\\n" +
			"    --header 'webhook-timestamp: 1699564800' --header 'webhook-signature: v1,…'\n" +
			"  WEBHOOK_SECRET=whsec_… posthaste verify --body request.txt   # headers, an empty line, the body",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			secret, _ := getenv("WEBHOOK_SECRET")
			if secret == "" {
				return &config.Usage{Err: errors.New("set WEBHOOK_SECRET to the endpoint's secret")}
			}
			raw, err := readFileOr(cmd.InOrStdin(), body)
			if err != nil {
				return err
			}
			c := &capture{header: http.Header{}, body: raw}
			if len(headers) == 0 || bytes.Contains(firstLine(raw), []byte(" HTTP/")) {
				if c, err = readCapture(raw); err != nil {
					return &config.Usage{Err: err}
				}
			}
			for _, one := range headers {
				name, value, ok := strings.Cut(one, ":")
				if !ok {
					return &config.Usage{Err: fmt.Errorf("--header %q: write 'name: value'", one)}
				}
				c.header.Set(strings.TrimSpace(name), strings.TrimSpace(value))
			}
			now := time.Now()
			if at != "" {
				if now, err = pastTime(at, now); err != nil {
					return &config.Usage{Err: fmt.Errorf("--at: %w", err)}
				}
			}
			return verify(cmd, *asJSON, strings.Split(secret, ","), brand+"-Signature", c, now)
		},
	}
	asJSON = jsonFlag(cmd)
	f := cmd.Flags()
	f.StringArrayVar(&headers, "header", nil, "header of the delivery, 'name: value'; repeatable")
	f.StringVar(&body, "body", "-", "file with the body, or with the whole request; - is standard input")
	f.StringVar(&at, "at", "", "time of receipt: a duration ago or a time (default: now)")
	f.StringVar(&brand, "brand", "Payment", "prefix of the signature header: <brand>-Signature")
	return cmd
}

func firstLine(raw []byte) []byte {
	line, _, _ := bytes.Cut(raw, []byte("\n"))
	return line
}

func readFileOr(stdin io.Reader, path string) ([]byte, error) {
	if path == "-" {
		return io.ReadAll(stdin)
	}
	return os.ReadFile(path)
}

// verify reports whether each scheme's signature is valid, and if not, why.
func verify(cmd *cobra.Command, asJSON bool, keys []string, plainHeader string, c *capture, now time.Time) error {
	v, err := webhook.NewVerifier(keys...)
	if err != nil {
		return &config.Usage{Err: fmt.Errorf("WEBHOOK_SECRET: %w", err)}
	}
	v.SignatureHeader, v.Now = plainHeader, func() time.Time { return now }
	say := func(scheme, verdict string, why ...string) {
		_ = result(cmd, asJSON, map[string]any{"scheme": scheme, "verdict": verdict, "why": why}, "%s: %s", scheme, strings.Join(append([]string{verdict}, why...), "\n  "))
	}
	bad := 0
	for _, scheme := range []struct {
		name    string
		headers []string
		present bool
	}{
		{"webhook-signature (Standard Webhooks)", []string{webhook.IDHeader, webhook.TimestampHeader, webhook.StandardSignatureHeader}, c.header.Get(webhook.StandardSignatureHeader) != ""},
		{plainHeader, []string{plainHeader}, c.header.Get(plainHeader) != ""},
	} {
		if !scheme.present {
			say(scheme.name, "not there")
			continue
		}
		only := http.Header{}
		for _, name := range scheme.headers {
			only.Set(name, c.header.Get(name))
		}
		why, err := c.judge(v, only, now)
		if err == nil {
			say(scheme.name, "good", why...)
			continue
		}
		bad++
		say(scheme.name, "BAD: "+strings.TrimPrefix(err.Error(), "webhook: "), why...)
	}
	switch {
	case c.header.Get(webhook.StandardSignatureHeader) == "" && c.header.Get(plainHeader) == "":
		return errors.New("the request has no signature")
	case bad > 0:
		return errors.New("the delivery does not verify")
	}
	return nil
}

// judge verifies the captured body and, if that fails, its possible originals. A whole request
// that was recorded as text is valid if one of these is: the capture changed it, not the
// delivery. A separate body must be valid itself, because it is what the receiver verified.
func (c *capture) judge(v *webhook.Verifier, h http.Header, now time.Time) (why []string, err error) {
	if err = v.Verify(h, c.body); err == nil {
		return c.notes, nil
	}
	if errors.Is(err, webhook.ErrTooOld) || errors.Is(err, webhook.ErrTooNew) {
		return append(slices.Clone(c.notes), c.age(v, h, now)...), err
	}
	if !errors.Is(err, webhook.ErrBadSignature) {
		return c.notes, err
	}
	for _, r := range readings(c.body) {
		if v.Verify(h, r.body) == nil {
			if c.whole {
				err = nil
			}
			return append(slices.Clone(c.notes), r.note), err
		}
	}
	return append(slices.Clone(c.notes), diagnose(v, h, c.body)...), err
}

// age describes the timestamp of a delivery that is too old or too new, and whether the
// signature is valid otherwise.
func (c *capture) age(v *webhook.Verifier, h http.Header, now time.Time) []string {
	seconds, err := strconv.ParseInt(h.Get(webhook.TimestampHeader), 10, 64)
	if err != nil {
		return nil
	}
	sent := time.Unix(seconds, 0)
	lines := []string{fmt.Sprintf("It was sent at %s, %s from %s; the tolerance is %s.", sent.UTC().Format(time.RFC3339),
		now.Sub(sent).Abs().Round(time.Second), now.UTC().Format(time.RFC3339), v.Tolerance)}
	then := *v
	then.Now = func() time.Time { return sent }
	why, err := c.judge(&then, h, sent)
	if err == nil {
		lines = append(lines, "The signature is valid: the cause is a replay, a slow queue, or a wrong clock. Try --at "+sent.UTC().Format(time.RFC3339))
	}
	return append(lines, why[len(c.notes):]...)
}

// diagnose looks for the usual causes, other than line ends, of an invalid signature.
func diagnose(v *webhook.Verifier, h http.Header, body []byte) (lines []string) {
	if !json.Valid(body) {
		lines = append(lines, "The body is not complete JSON: it was truncated, or decoded with the wrong character set.")
	} else if stable, err := event.AppendStable(nil, body, ""); err == nil && v.Verify(h, stable) == nil {
		return []string{"The body was decoded and re-encoded, with other white space, order or escapes. Verify the raw bytes of the request,", "before any body parser."}
	}
	return append(lines, "It was signed with another secret, or the body was changed. Check that the secret is this endpoint's: `posthaste",
		"endpoints reveal-secret we_…` shows it; test and live mode have different endpoints.")
}

// eventTypeOf returns the type of an event's body, "-" if it has none.
func eventTypeOf(body []byte) string {
	var e struct{ Type string }
	if json.Unmarshal(body, &e) != nil || e.Type == "" {
		return "-"
	}
	return e.Type
}
