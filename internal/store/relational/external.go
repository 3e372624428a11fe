package relational

import "github.com/posthaste-hq/posthaste/internal/fault"

// accountIDs is the owner of the external ids of accounts. The owner of those of endpoints is
// their space.
const accountIDs = -1

// external finds the number of the object with an external id, in a condition.
const external = `(SELECT x.no FROM external_ids x WHERE x.owner = ? AND x.external_id = ?)`

// rename replaces the external id of an object; empty ones are none. The claim of an id waits for
// another transaction that claims it. Errors: fault.Invalid if another object has it.
func (t *Tx) rename(owner, no int64, was, is string) error {
	if was == is {
		return nil
	}
	if was != "" {
		if err := t.exec(`DELETE FROM external_ids WHERE owner = ? AND external_id = ?`, owner, was); err != nil {
			return err
		}
	}
	if is == "" {
		return nil
	}
	n, err := t.changed(`INSERT INTO external_ids (owner, external_id, no) VALUES (?, ?, ?) ON CONFLICT (owner, external_id) DO NOTHING`, owner, is, no)
	if err == nil && n == 0 {
		return fault.Param("external_id", "external_id_taken", "Another object already has the external id '%s'.", is)
	}
	return err
}
