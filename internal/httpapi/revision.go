package httpapi

import (
	"net/http"
	"strconv"
	"strings"
)

// revision is the revision of an object that can be edited. It is in no body: it is the ETag of
// responses with the object, and the value of If-Match of an edit.
type revision int64

func (v endpointView) etag() revision { return v.Revision }
func (v accountView) etag() revision  { return v.Revision }
func (v typeView) etag() revision     { return v.Revision }
func (v userView) etag() revision     { return v.Revision }

// matches returns the revisions in a request's If-Match, nil for any. An ETag of another form
// matches no object.
func matches(h http.Header) []int64 {
	lines := h.Values("If-Match")
	if len(lines) == 0 {
		return nil
	}
	all := []int64{}
	for etag := range strings.SplitSeq(strings.Join(lines, ","), ",") {
		etag = strings.TrimSpace(etag)
		if etag == "*" {
			return nil
		}
		inner, opened := strings.CutPrefix(etag, `"`)
		inner, closed := strings.CutSuffix(inner, `"`)
		if n, err := strconv.ParseInt(inner, 36, 64); opened && closed && err == nil && n > 0 {
			all = append(all, n)
		}
	}
	return all
}
