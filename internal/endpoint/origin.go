package endpoint

import (
	"net/url"
	"strings"
)

// Origin returns the scheme, host and port of a URL: what a credential is bound to. Two
// spellings of one origin are equal. Of what is no URL it returns all.
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
