package service

import (
	"slices"
	"strings"

	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// searchHashes returns the hashes that an event is indexed by.
func (s *Service) searchHashes(e *event.Event) (hashes []int64) {
	for _, k := range e.SearchKeys(s.Auth.SearchPaths(e.Space)) {
		hashes = append(hashes, k.Sum(e.Space).Hash())
	}
	return hashes
}

// search checks a search key, and returns it in the store's form. param is what names its path.
func (s *Service) search(space event.Space, k event.SearchKey, param string) (store.Search, error) {
	if k == (event.SearchKey{}) {
		return store.Search{}, nil
	}
	declared := s.Auth.SearchPaths(space)
	if !slices.Contains(declared, k.Path) {
		known := "The account has none."
		if len(declared) > 0 {
			known = "The account has: " + strings.Join(declared, ", ") + "."
		}
		return store.Search{}, fault.Param(param, "search_key_undeclared", "%s is not a searchable key of the account. %s", k.Path, known)
	}
	return store.Search{Path: k.Path, Sum: k.Sum(space)}, nil
}
