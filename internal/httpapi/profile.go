package httpapi

import (
	"net/http"
	"time"

	"github.com/posthaste-hq/posthaste/internal/fault"
)

// profiles is where profiles of the process are.
const profiles = "/debug/pprof/"

// profile lets operators have a profile. It shows what the program does and how it was
// started, so it is nothing for accounts.
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
		a.Observe(rt.Method, rt.Path, status, 0) // how long it took is what was asked for
	}
	a.logRequest(w, rq, rt, status, err, time.Since(began))
}
