// Package telemetry owns how the server shows itself: the logger, the metrics, and
// the traces.
//
// It stands around the parts and looks on: what they do is passed through it, and they
// know nothing of it. It must not know HTTP handlers or SQL. Nothing it is given may be
// a secret, a key or a payload.
package telemetry

import (
	"fmt"
	"io"
	"log/slog"
)

// NewLogger returns a logger that writes lines of the given format ("text" or
// "json") from the given level up.
func NewLogger(w io.Writer, format, level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("log level %q: use debug, info, warn or error", level)
	}
	opts := &slog.HandlerOptions{Level: l}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, opts)), nil
	}
	return slog.New(slog.NewTextHandler(w, opts)), nil
}
