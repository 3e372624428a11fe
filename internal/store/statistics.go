package store

import (
	"time"

	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/event"
)

// Grain is the length of time that a [Statistic] counts over.
type Grain time.Duration

// The grains.
const (
	ByMinute = Grain(time.Minute)
	ByHour   = Grain(time.Hour)
)

// Start returns the beginning of this grain's interval that contains t.
func (g Grain) Start(t time.Time) time.Time { return t.UTC().Truncate(time.Duration(g)) }

// Statistic contains the counts of a space, or of one of its endpoints, in an interval.
type Statistic struct {
	Space    event.Space
	Endpoint int64 // store number; 0: the whole space
	Grain    Grain
	Start    time.Time
	delivery.Counts
}

// StatisticFilter selects statistics.
type StatisticFilter struct {
	Space     event.Space
	Endpoints []int64 // 0 selects the whole space
	Grain     Grain
	From      time.Time // inclusive
}
