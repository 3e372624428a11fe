package cli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"os"
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
		Short: "Check a captured delivery against a secret, and say what is wrong with it",
		Long: "Check a captured delivery. The secret, or the public key (whpk_…), is WEBHOOK_SECRET; several are separated by\n" +
			"commas. Headers are given with --header, or stand before the body, as in a recorded request.",
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
			h := http.Header{}
			if len(headers) == 0 {
				if h, raw, err = splitRequest(raw); err != nil {
					return &config.Usage{Err: err}
				}
			}
			for _, one := range headers {
				name, value, ok := strings.Cut(one, ":")
				if !ok {
					return &config.Usage{Err: fmt.Errorf("--header %q: write 'name: value'", one)}
				}
				h.Set(strings.TrimSpace(name), strings.TrimSpace(value))
			}
			now := time.Now()
			if at != "" {
				if now, err = pastTime(at, now); err != nil {
					return &config.Usage{Err: fmt.Errorf("--at: %w", err)}
				}
			}
			return verify(cmd, *asJSON, strings.Split(secret, ","), brand+"-Signature", h, raw, now)
		},
	}
	asJSON = jsonFlag(cmd)
	f := cmd.Flags()
	f.StringArrayVar(&headers, "header", nil, "a header, 'name: value'; may be repeated")
	f.StringVar(&body, "body", "-", "file with the body, or with the whole request; - is standard input")
	f.StringVar(&at, "at", "", "when it was received: a duration ago or a time (default: now)")
	f.StringVar(&brand, "brand", "Payment", "names the header: <brand>-Signature")
	return cmd
}

func readFileOr(stdin io.Reader, path string) ([]byte, error) {
	if path == "-" {
		return io.ReadAll(stdin)
	}
	return os.ReadFile(path)
}

// splitRequest takes a recorded request apart: a request line, if there is one,
// headers, an empty line, the body.
func splitRequest(raw []byte) (http.Header, []byte, error) {
	head, body, ok := bytes.Cut(raw, []byte("\r\n\r\n"))
	if !ok {
		head, body, ok = bytes.Cut(raw, []byte("\n\n"))
	}
	if !ok {
		return nil, nil, errors.New("give the headers with --header, or put them and an empty line before the body")
	}
	if first, rest, _ := bytes.Cut(head, []byte("\n")); bytes.Contains(first, []byte(" HTTP/")) {
		head = rest
	}
	h, err := textproto.NewReader(bufio.NewReader(bytes.NewReader(append(head, "\r\n\r\n"...)))).ReadMIMEHeader()
	if err != nil {
		return nil, nil, fmt.Errorf("read the headers: %w", err)
	}
	return http.Header(h), body, nil
}

// verify says whether each scheme's signature fits, and if not, why.
func verify(cmd *cobra.Command, asJSON bool, keys []string, plainHeader string, h http.Header, body []byte, now time.Time) error {
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
		{"webhook-signature (Standard Webhooks)", []string{webhook.IDHeader, webhook.TimestampHeader, webhook.StandardSignatureHeader}, h.Get(webhook.StandardSignatureHeader) != ""},
		{plainHeader, []string{plainHeader}, h.Get(plainHeader) != ""},
	} {
		if !scheme.present {
			say(scheme.name, "not there")
			continue
		}
		only := http.Header{}
		for _, name := range scheme.headers {
			only.Set(name, h.Get(name))
		}
		err := v.Verify(only, body)
		if err == nil {
			say(scheme.name, "good")
			continue
		}
		bad++
		say(scheme.name, "BAD: "+strings.TrimPrefix(err.Error(), "webhook: "), diagnose(v, only, body, err, now)...)
	}
	switch {
	case h.Get(webhook.StandardSignatureHeader) == "" && h.Get(plainHeader) == "":
		return errors.New("the request carries no signature")
	case bad > 0:
		return errors.New("the delivery does not verify")
	}
	return nil
}

// diagnose looks for the usual reasons.
func diagnose(v *webhook.Verifier, h http.Header, body []byte, err error, now time.Time) (lines []string) {
	fits := func(b []byte) bool { return v.Verify(h, b) == nil }
	if errors.Is(err, webhook.ErrTooOld) || errors.Is(err, webhook.ErrTooNew) {
		seconds, perr := strconv.ParseInt(h.Get(webhook.TimestampHeader), 10, 64)
		if perr == nil {
			sent := time.Unix(seconds, 0)
			lines = append(lines, fmt.Sprintf("It was sent at %s, %s away from %s; %s are tolerated.", sent.UTC().Format(time.RFC3339),
				now.Sub(sent).Abs().Round(time.Second), now.UTC().Format(time.RFC3339), v.Tolerance))
			then := *v
			then.Now = func() time.Time { return sent }
			if then.Verify(h, body) == nil {
				lines = append(lines, "Apart from that it is genuine: a replay, a slow queue, or a wrong clock. Try --at "+sent.UTC().Format(time.RFC3339))
			}
		}
		return lines
	}
	if !errors.Is(err, webhook.ErrBadSignature) {
		return lines
	}
	trimmed := bytes.TrimRight(body, "\r\n\t ")
	var value any
	isJSON := json.Unmarshal(body, &value) == nil
	stable := []byte(nil)
	if isJSON {
		if b, serr := event.AppendStable(nil, body, ""); serr == nil {
			stable = b
		}
	}
	switch {
	case len(trimmed) < len(body) && fits(trimmed):
		return []string{"The body ends with white space that was not signed: the capture, or an editor, added a line end."}
	case fits(append(bytes.Clone(body), '\n')):
		return []string{"The signed body ended with a line end that is missing here."}
	case stable != nil && fits(stable):
		return []string{"The body was decoded and written again, with other white space, order or escapes. Verify the raw bytes of the request,", "before any body parser."}
	case !isJSON:
		lines = append(lines, "The body is no complete JSON: it was cut off, or decoded in the wrong character set.")
	}
	return append(lines, "Another secret signed it, or the body is not the one that was sent. Check that the secret is this endpoint's: `posthaste",
		"endpoints reveal-secret we_…` shows it; test and live mode have different endpoints.")
}

// eventTypeOf returns the type of an event's body, "-" when it has none.
func eventTypeOf(body []byte) string {
	var e struct{ Type string }
	if json.Unmarshal(body, &e) != nil || e.Type == "" {
		return "-"
	}
	return e.Type
}
