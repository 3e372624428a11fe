package cli

import (
	"context"
	"net/http"
	"time"

	"github.com/posthaste-hq/posthaste/internal/dispatch"
	"github.com/posthaste-hq/posthaste/internal/service"
)

// Without tracing the parts are connected directly.

func (s *server) events() service.Appender {
	if s.tracing == nil {
		return s.commits
	}
	return s.tracing.Events(s.commits)
}

func (s *server) attempts(next dispatch.Sender) dispatch.Sender {
	if s.tracing == nil {
		return next
	}
	return s.tracing.Sender(next)
}

func (s *server) requests(next http.Handler) http.Handler {
	if s.tracing == nil {
		return next
	}
	return s.tracing.Requests(next)
}

const traceTimeout = 2 * time.Second

// stopTracing exports the remaining spans, if the collector accepts them soon.
func (s *server) stopTracing(ctx context.Context) {
	if s.tracing == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), traceTimeout)
	defer cancel()
	if err := s.tracing.Stop(ctx); err != nil {
		s.log.Warn("the last traces were not exported", "err", err)
	}
}
