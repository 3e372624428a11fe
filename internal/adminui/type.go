package adminui

import (
	"fmt"

	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
)

func listTypes(rq *request) error { return rq.render("types", groups()) }

type typeView struct {
	Name, Description string
	Sample, Schema    string
	Reserved          bool // the server alone announces it
	Problem           *problem
}

func showType(rq *request) error { return typePage(rq, "", nil) }

// typePage shows a type; data is what was typed instead of the sample.
func typePage(rq *request, data string, problem error) error {
	v := typeView{Name: rq.PathValue("type"), Problem: errorView(problem)}
	if !event.ValidType(v.Name) {
		return fault.Missing("event type", v.Name)
	}
	for _, t := range event.Catalogue() {
		if t.Name == v.Name {
			v.Description = t.Description
		}
	}
	v.Sample, v.Schema, v.Reserved = data, string(event.Schema(v.Name)), event.Operational(v.Name)
	if data == "" {
		v.Sample = string(event.Sample(v.Name, rq.ui.Service.Now().Unix()))
	}
	return rq.renderForm("type", v, problem)
}

// sendSample sends an event of the type to everybody who wants it, like any sender.
func sendSample(rq *request) error {
	name, data := rq.PathValue("type"), rq.PostFormValue("data")
	e, err := rq.ui.Service.SendEvent(rq.Context(), rq.call, fmt.Appendf(nil, `{"type":%q,"data":%s}`, name, data))
	if err != nil {
		return typePage(rq, data, err)
	}
	return rq.done("sent", "events", e.ID)
}
