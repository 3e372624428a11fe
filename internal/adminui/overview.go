package adminui

import (
	"github.com/posthaste-hq/posthaste/internal/service"
	"github.com/posthaste-hq/posthaste/internal/service/tally"
)

type overviewView struct {
	service.Overview
	Spans []tally.Span
}

func overview(rq *request) error {
	o, err := rq.ui.Service.Overview(rq.Context(), rq.call, tally.SpanNamed(rq.URL.Query().Get("span")))
	if err != nil {
		return err
	}
	return rq.render("overview", overviewView{o, tally.Spans})
}
