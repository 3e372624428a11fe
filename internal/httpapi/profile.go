package httpapi

import (
	"net/http"
	"time"

	"github.com/posthaste-hq/posthaste/internal/fault"
)

// profiles is the path of the process's profiles.
const profiles = "/debug/pprof/"

// profile serves profiles to operators only, because they show the program's internals and its
// command line.
func (a *api) profile(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	rq := &request{Request: r, api: a}
	var err error
	if rq.call, err = a.authenticate(r); err == nil {
		err = a.Service.Recheck(r.Context(), rq.call)
	}
	if err == nil && !rq.call.Operator() {
		err = &fault.Error{Code: fault.Forbidden, Reason: "operator_key_required", Message: "Only an operator key (sk_admin_…) may read profiles."}
	}
	status := http.StatusOK
	if err != nil {
		status = WriteError(w, err)
	} else {
		a.Profiles.ServeHTTP(w, r)
	}
	rt := route{Method: "any", Path: profiles}
	if a.Observe != nil {
		a.Observe(rt.Method, rt.Path, status, 0) // the duration is the one that was requested
	}
	a.logRequest(w, rq, rt, status, err, time.Since(began))
}
