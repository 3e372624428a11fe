package service

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/endpoint"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/fault"
	"github.com/posthaste-hq/posthaste/internal/service/call"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// newSecret returns the given secret for an endpoint or, if value is empty, a generated one.
func (s *Service) newSecret(e *endpoint.Endpoint, value string, now time.Time) (secret endpoint.Secret, err error) {
	secret = endpoint.NewSecret(s.IDs.New(event.PrefixSecret), now)
	if value != "" {
		if secret.Value, err = e.FitSecret(value); err != nil {
			return secret, err
		}
	}
	if e.Settings.Ed25519 {
		secret.AddSigningKey()
	}
	return secret, nil
}

// RotateSecret adds a generated or given secret; the old ones stay valid for the given time.
// The result contains all live secrets, the new one last. Errors: fault.Invalid, and those of
// idempotency.
func (s *Service) RotateSecret(ctx context.Context, c *call.Call, id, value string, life time.Duration) (*endpoint.Endpoint, error) {
	return s.change(ctx, c, id, func(e *endpoint.Endpoint, now time.Time) (account.Action, []string, *announcement, error) {
		next, err := s.newSecret(e, value, now)
		if err != nil {
			return "", nil, nil, err
		}
		if err := e.Rotate(next, life, now); err != nil {
			return "", nil, nil, err
		}
		seconds := int(life / time.Second)
		return account.SecretRotated, []string{"secret", next.ID, "expires_in", strconv.Itoa(seconds)},
			&announcement{about: e, typ: event.TypeSecretRotated, object: endpointObject(e, "secret_id", next.ID, "old_secrets_expire", now.Unix()+int64(seconds))}, nil
	})
}

// RevokeSecret revokes one old secret at once, or all old ones if secretID is empty. Errors:
// fault.Invalid, and those of idempotency.
func (s *Service) RevokeSecret(ctx context.Context, c *call.Call, id, secretID string) (*endpoint.Endpoint, error) {
	return s.change(ctx, c, id, func(e *endpoint.Endpoint, now time.Time) (account.Action, []string, *announcement, error) {
		which := secretID
		if which == "" {
			which = "all old ones"
		}
		return account.SecretRevoked, []string{"secret", which}, nil, e.Revoke(secretID, now)
	})
}

// RevealSecret returns an endpoint whose secrets are to be shown. The request is recorded
// before it returns.
func (s *Service) RevealSecret(ctx context.Context, c *call.Call, id string) (*endpoint.Endpoint, error) {
	end, err := s.BeginEdit(ctx, c)
	if err != nil {
		return nil, err
	}
	defer end()
	e, err := s.Store.Endpoint(ctx, c.Space, id)
	if err != nil {
		return nil, err
	}
	now := s.Now()
	e.Secrets = e.LiveSecrets(now)
	t := s.Trail(c, &e, now, account.SecretRevealed, e.ID, "secret", e.Newest().ID)
	if err := s.Store.Audit(ctx, t.Audit, t.Receipt); err != nil {
		return nil, err
	}
	return &e, nil
}

// tendSecrets deletes expired secrets and reminds accounts of old ones.
func (s *Service) tendSecrets(ctx context.Context) error {
	now := s.Now()
	var due []*endpoint.Endpoint
	s.Endpoints.Each(func(e *endpoint.Registered) {
		if e.Space != OperatorSpace && !e.Kind().Connects && s.owns(e.No) && (len(e.LiveSecrets(now)) < len(e.Secrets) || s.mustRemind(e.Endpoint, now)) {
			due = append(due, e.Endpoint)
		}
	})
	for _, e := range due {
		if err := s.tendSecretsOf(ctx, e, now); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) mustRemind(e *endpoint.Endpoint, now time.Time) bool {
	newest := e.Newest()
	return s.SecretMaxAge > 0 && newest.Reminded.IsZero() && now.Sub(newest.Created) >= s.SecretMaxAge && e.Status == endpoint.Enabled
}

func (s *Service) tendSecretsOf(ctx context.Context, seen *endpoint.Endpoint, now time.Time) error {
	var a *announcement
	var trail store.Trail
	_, err := s.editEndpoint(ctx, call.ByItself(seen.Space), seen.Space, seen.ID, func(e *endpoint.Endpoint, _ time.Time) (_ store.Trail, err error) {
		a, trail = nil, store.Trail{}
		live := e.LiveSecrets(now)
		remind := s.mustRemind(e, now)
		if len(live) == len(e.Secrets) && !remind {
			return trail, store.ErrUnchanged
		}
		e.Secrets = slices.Clone(live)
		if remind {
			e.Newest().Reminded = now
			days := int(now.Sub(e.Newest().Created).Hours() / 24)
			a = &announcement{about: e, typ: event.TypeSecretDue,
				object: endpointObject(e, "secret_id", e.Newest().ID, "secret_created", e.Newest().Created.Unix()),
				text:   fmt.Sprintf("The signing secret of the endpoint is %d days old. Rotate it.", days)}
			trail.Announce, err = s.compose(a, now)
		}
		return trail, err
	})
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if a != nil {
		s.announced(a, trail.Announce)
	}
	return nil
}
