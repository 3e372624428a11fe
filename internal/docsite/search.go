package docsite

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// result is a matching place in the documentation.
type result struct {
	Page    *page
	Part    part
	Excerpt string
	score   int
}

const (
	maxResults = 30
	maxQuery   = 200 // bytes
	excerpt    = 180 // bytes
)

// search returns the places that hold every word of the query, best first.
func (b *book) search(query string) []result {
	words := strings.Fields(strings.ToLower(query[:min(len(query), maxQuery)]))
	if len(words) == 0 {
		return nil
	}
	var found []result
	for _, s := range b.sections {
		for _, p := range s.Pages {
			for _, part := range p.Parts {
				if r, ok := match(p, part, words); ok {
					found = append(found, r)
				}
			}
		}
	}
	slices.SortStableFunc(found, func(a, b result) int { return b.score - a.score })
	return found[:min(len(found), maxResults)]
}

func match(p *page, part part, words []string) (result, bool) {
	heading, title, body := strings.ToLower(part.Heading), strings.ToLower(p.Title), strings.ToLower(part.Text)
	r := result{Page: p, Part: part}
	first := -1
	here := false
	for _, w := range words {
		at := strings.Index(body, w)
		switch {
		case strings.Contains(heading, w):
			r.score += 10
			here = true
		case at >= 0:
			r.score += 1 + min(strings.Count(body, w), 5)
			here = true
		case !strings.Contains(title, w):
			return r, false
		}
		if at >= 0 && (first < 0 || at < first) {
			first = at
		}
	}
	r.Excerpt = around(part.Text, max(first, 0))
	return r, here
}

// around returns the text around a position.
func around(text string, at int) string {
	from, to := max(0, at-excerpt/3), min(len(text), at+excerpt)
	for from > 0 && from < len(text) && text[from] != ' ' {
		from--
	}
	if from > len(text) { // lower case may be longer than the original
		from = 0
	}
	for to < len(text) && !utf8.RuneStart(text[to]) {
		to++
	}
	out := strings.TrimSpace(text[from:max(from, to)])
	if from > 0 {
		out = "… " + out
	}
	if to < len(text) {
		out += " …"
	}
	return out
}
