package adminui

import "github.com/posthaste-hq/posthaste/internal/service"

type overviewView struct {
	service.Overview
	Spans []service.Span
}

func overview(rq *request) error {
	o, err := rq.ui.Service.Overview(rq.Context(), rq.call, service.SpanNamed(rq.URL.Query().Get("span")))
	if err != nil {
		return err
	}
	return rq.render("overview", overviewView{o, service.Spans})
}
