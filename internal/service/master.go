package service

import (
	"context"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/service/call"
)

// MasterRotation is the result of a rotation of the master key.
type MasterRotation struct {
	From    string `json:"from"` // identifiers of keys
	To      string `json:"to"`
	Records int    `json:"records"` // number of re-encrypted records
}

// RotateMasterKey generates a new master key and re-encrypts every record with it, while the
// server runs. Operators only.
func (s *Service) RotateMasterKey(ctx context.Context, c *call.Call) (MasterRotation, error) {
	end, err := s.BeginAdmin(ctx, c)
	if err != nil {
		return MasterRotation{}, err
	}
	defer end()
	if s.RotateMaster == nil {
		return MasterRotation{}, &fault.Error{Code: fault.Invalid, Reason: "master_key_fixed", Message: "This server's master key cannot be rotated while it runs."}
	}
	// A caller who disconnects must not interrupt it.
	done, err := s.RotateMaster(context.WithoutCancel(ctx))
	if err != nil {
		return done, err
	}
	e := s.Entry(c, s.Now(), account.MasterKeyRotated, done.To, "from", done.From)
	e.Space = 0
	return done, s.Store.Audit(context.WithoutCancel(ctx), e, s.Receipt(c, done, s.Now()))
}
