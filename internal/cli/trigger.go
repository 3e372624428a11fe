package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/posthaste-hq/posthaste/internal/config"
	"github.com/posthaste-hq/posthaste/internal/event"
)

func triggerCommand(getenv func(string) (string, bool)) *cobra.Command {
	var data, rawFile, contentType string
	var overrides, headers []string
	var count int
	var perSecond float64
	cmd := &cobra.Command{
		Use:   "trigger TYPE",
		Short: "Send an event",
		Long: "Send an event of a type, with sample data or your own. The sample is the first one in the account's definition\n" +
			"of the type, if it exists. --data is a file, or - for standard input: the whole \"data\", or the object in it.\n" +
			"--raw is a file of bytes that endpoints with the payload format raw receive unchanged.\n" +
			"--override sets single values; valid JSON is used as JSON.",
		Example: "  posthaste trigger payment.succeeded\n" +
			"  posthaste trigger payment.succeeded --override data.object.amount=500\n" +
			"  posthaste trigger statement.ready --raw statement.xml --content-type application/xml\n" +
			"  posthaste trigger invoice.paid --data invoice.json --count 100 --rate 20",
		Args: cobra.ExactArgs(1),
	}
	get := talkFor(cmd, getenv)
	cmd.Flags().StringVar(&data, "data", "", "file with the event's data; - is standard input")
	cmd.Flags().StringVar(&rawFile, "raw", "", "file with the event's raw bytes; - is standard input")
	cmd.Flags().StringVar(&contentType, "content-type", "", "content type of the raw bytes (default application/octet-stream)")
	cmd.Flags().StringArrayVar(&headers, "header", nil, "set a header of the deliveries, 'Name: value'; repeatable")
	cmd.Flags().StringArrayVar(&overrides, "override", nil, "set a value, data.object.name=value; repeatable")
	cmd.Flags().IntVar(&count, "count", 1, "number of events to send")
	cmd.Flags().Float64Var(&perSecond, "rate", 0, "events per second; 0 is as fast as possible")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := get()
		if err != nil {
			return err
		}
		if count < 1 || perSecond < 0 {
			return &config.Usage{Err: errors.New("--count is 1 or more, --rate 0 or more")}
		}
		if contentType != "" && rawFile == "" {
			return &config.Usage{Err: errors.New("--content-type requires --raw")}
		}
		in := map[string]any{"type": args[0]}
		if rawFile != "" {
			bytes, err := readFileOr(cmd.InOrStdin(), rawFile)
			if err != nil {
				return fmt.Errorf("read the raw bytes: %w", err)
			}
			in["raw"] = bytes // as base64
			if contentType != "" {
				in["content_type"] = contentType
			}
		}
		if rawFile == "" || data != "" || len(overrides) > 0 {
			if in["data"], err = c.dataOf(cmd, args[0], data, overrides); err != nil {
				return err
			}
		}
		if len(headers) > 0 {
			if in["headers"], err = headerPairs(headers); err != nil {
				return &config.Usage{Err: err}
			}
		}
		raw, err := json.Marshal(in)
		if err != nil {
			return err
		}
		return c.sendMany(cmd, raw, count, perSecond)
	}
	return cmd
}

// dataOf returns the data of an event of a type: from a file or, without one, the sample, with
// values set.
func (c *client) dataOf(cmd *cobra.Command, typ, file string, overrides []string) (data map[string]any, err error) {
	var raw []byte
	if file != "" {
		raw, err = readFileOr(cmd.InOrStdin(), file)
	} else {
		raw, err = c.sample(cmd.Context(), typ)
	}
	if err != nil {
		return nil, fmt.Errorf("read the event's data: %w", err)
	}
	if data, err = eventData(raw); err != nil {
		return nil, err
	}
	for _, o := range overrides {
		if err := override(data, o); err != nil {
			return nil, &config.Usage{Err: fmt.Errorf("--override %s: %w", o, err)}
		}
	}
	return data, nil
}

// headerPairs reads headers that are written as "Name: value".
func headerPairs(lines []string) (map[string]string, error) {
	pairs := make(map[string]string, len(lines))
	for _, line := range lines {
		name, value, ok := strings.Cut(line, ":")
		if !ok {
			return nil, fmt.Errorf("--header %q: write 'Name: value'", line)
		}
		pairs[strings.TrimSpace(name)] = strings.TrimSpace(value)
	}
	return pairs, nil
}

// sample returns the data of an example of a type: the account's own, or the built-in one.
func (c *client) sample(ctx context.Context, typ string) ([]byte, error) {
	var d struct {
		BuiltIn bool `json:"built_in"`
		Samples []json.RawMessage
	}
	raw, err := c.call(ctx, http.MethodGet, "/v1/event_types/"+url.PathEscape(typ), nil)
	var refused *apiError
	switch {
	case errors.As(err, &refused) && refused.status == http.StatusNotFound: // the account has not defined it
	case err != nil:
		return nil, err
	default:
		if err := json.Unmarshal(raw, &d); err != nil {
			return nil, err
		}
	}
	if d.BuiltIn || len(d.Samples) == 0 { // built-in samples contain the current time
		return event.Sample(typ, time.Now().Unix()), nil
	}
	return d.Samples[0], nil
}

// eventData returns the value of "data".
func eventData(raw []byte) (map[string]any, error) {
	v, err := decodeObject(raw)
	if err != nil {
		return nil, fmt.Errorf("the event's data is not a JSON object: %w", err)
	}
	if _, whole := v["object"].(map[string]any); !whole {
		v = map[string]any{"object": v}
	}
	return v, nil
}

// decodeObject parses a JSON object; numbers keep their notation.
func decodeObject(raw []byte) (v map[string]any, err error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if err = dec.Decode(&v); err != nil {
		return nil, err
	}
	if v == nil || dec.More() {
		return nil, errors.New("expected one object")
	}
	return v, nil
}

// override sets one value of the event: data.object.a.b=value.
func override(data map[string]any, text string) error {
	path, value, ok := strings.Cut(text, "=")
	names := strings.Split(path, ".")
	if !ok || names[0] != "data" || len(names) < 2 {
		return errors.New("write data.object.name=value")
	}
	var v any = value
	dec := json.NewDecoder(strings.NewReader(value))
	dec.UseNumber()
	var parsed any
	if dec.Decode(&parsed) == nil && !dec.More() {
		v = parsed
	}
	m := data
	for _, name := range names[1 : len(names)-1] {
		next, ok := m[name].(map[string]any)
		if !ok {
			if m[name] != nil {
				return fmt.Errorf("%s is not an object", name)
			}
			next = map[string]any{}
			m[name] = next
		}
		m = next
	}
	m[names[len(names)-1]] = v
	return nil
}

func (c *client) sendMany(cmd *cobra.Command, raw []byte, count int, perSecond float64) error {
	started := time.Now()
	bar := c.progress(count, "events")
	defer func() { _ = bar.Exit() }()
	for i := range count {
		if perSecond > 0 {
			select {
			case <-time.After(time.Until(started.Add(time.Duration(float64(i) / perSecond * float64(time.Second))))):
			case <-cmd.Context().Done():
				return cmd.Context().Err()
			}
		}
		answer, err := c.call(cmd.Context(), http.MethodPost, "/v1/events", raw)
		if err != nil {
			return fmt.Errorf("after %d of %d events: %w", i, count, err)
		}
		var e struct{ ID, Type string }
		if err := json.Unmarshal(answer, &e); err != nil {
			return err
		}
		switch {
		case c.json:
			_, err = fmt.Fprintln(c.out, string(answer))
		default:
			_, err = fmt.Fprintln(c.out, e.ID, e.Type)
		}
		if err = errors.Join(err, bar.Add(1)); err != nil {
			return err
		}
	}
	return nil
}
