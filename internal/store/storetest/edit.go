package storetest

import (
	"context"
	"time"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/delivery"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/job"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// The bundle's writes of whole objects, for tests that are not about edits.

func (b *bundle) writeAccount(a *account.Account, t store.Trail) error {
	got, err := b.EditAccount(b.ctx, a.ID, func(now *account.Account) (store.Trail, error) {
		revision := now.Revision
		*now = *a
		now.Revision = revision
		return t, nil
	})
	if err == nil {
		*a = got
	}
	return err
}

func (b *bundle) writeEndpoint(e *endpoint.Endpoint, t store.Trail) error {
	got, err := b.EditEndpoint(b.ctx, e.Space, e.ID, func(now *endpoint.Endpoint) (store.Trail, error) {
		revision := now.Revision
		*now = *e
		now.Revision = revision
		return t, nil
	})
	e.Revision = got.Revision
	return err
}

func (b *bundle) writeType(d *event.Definition, t store.Trail) error {
	got, err := b.EditType(b.ctx, d.Space, d.Name, func(now *event.Definition) (store.Trail, error) {
		revision := now.Revision
		*now = *d
		now.Revision = revision
		return t, nil
	})
	d.Revision = got.Revision
	return err
}

func (b *bundle) deleteEndpoint(no int64, at time.Time, t store.Trail) error {
	e, found := endpoint.Endpoint{}, false
	b.ok(b.AllEndpoints(b.ctx, func(one *endpoint.Endpoint) error {
		if one.No == no {
			e, found = *one, true
		}
		return nil
	}))
	if !found {
		return fault.Missing("webhook endpoint", "of the test")
	}
	return b.DeleteEndpoint(b.ctx, no, e.Revision, at, t)
}

func (b *bundle) cancel(id delivery.ID, at time.Time, t store.Trail) error {
	for _, space := range []event.Space{mine, live, theirs} {
		if _, err := b.Delivery(context.WithoutCancel(b.ctx), space, id); err == nil {
			_, err := b.CancelDelivery(b.ctx, space, id, at, func(*delivery.View) store.Trail { return t })
			return err
		}
	}
	return fault.Missing("delivery", id.String())
}

func unopposed([]job.Job) error { return nil }
