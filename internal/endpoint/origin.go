package endpoint

import (
	"net/url"
	"strings"
)

// Origin returns the scheme, host and port of a URL, to which credentials are bound. Two
// notations of one origin have the same result. An invalid URL is returned unchanged.
func Origin(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.Host == "" {
		return raw
	}
	scheme, port := strings.ToLower(u.Scheme), u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[scheme]
	}
	return scheme + "://" + strings.TrimSuffix(strings.ToLower(u.Hostname()), ".") + ":" + port
}
