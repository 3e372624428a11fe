package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/posthaste-hq/posthaste/internal/config"
	"github.com/posthaste-hq/posthaste/internal/store"
)

// auditReport is what verifying the audit log found, as the API says it.
type auditReport struct {
	OK        bool           `json:"ok"`
	Unchained int            `json:"unchained"`
	Chains    []auditChain   `json:"chains"`
	Problems  []auditProblem `json:"problems"`
}

type auditChain struct {
	Node    int64  `json:"node"`
	Entries int    `json:"entries"`
	First   int64  `json:"first"`
	Last    int64  `json:"last"`
	Seal    string `json:"seal"`
}

type auditProblem struct {
	Node     int64  `json:"node"`
	Sequence int64  `json:"sequence"`
	Entry    string `json:"entry"`
	Message  string `json:"message"`
}

func auditCommand(getenv func(string) (string, bool)) *cobra.Command {
	cmd := &cobra.Command{Use: "audit", Short: "Verify the audit log"}
	verify := &cobra.Command{
		Use: "verify", Short: "Check that no entry of the audit log was changed or removed", Args: cobra.NoArgs,
		Long: "Check that no entry of the audit log was changed or removed since it was written. Each node's entries are a\n" +
			"chain, sealed under a key that needs the master key. The command works on the data directory or the\n" +
			"database; while a server runs on the data directory, it asks that with the operator key.\n\n" +
			"A log that is put back to an older state as a whole verifies: note the seals elsewhere to notice it.\n" +
			"Exit code 1 when the log was changed.",
		Example: "  posthaste audit verify --data /var/lib/posthaste",
	}
	settings := config.Flags(verify.Flags(), config.Store, config.Secrets, config.Dev, config.Server)
	asJSON := jsonFlag(verify)
	verify.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := settings.Load(getenv)
		if err != nil {
			return err
		}
		report, err := verifyAudit(cmd.Context(), c)
		if err != nil {
			return err
		}
		if err := sayAudit(cmd, *asJSON, report); err != nil {
			return err
		}
		if !report.OK {
			return errors.New("the audit log is not as it was written")
		}
		return nil
	}
	cmd.AddCommand(verify)
	return cmd
}

func verifyAudit(ctx context.Context, c *config.Config) (report auditReport, err error) {
	keys, err := openMasterKeys(c)
	if err != nil {
		return report, err
	}
	st, err := openStore(ctx, c, keys.ring)
	if inUse(err) {
		return report, askServer(ctx, c, http.MethodGet, "/v1/audit_log/verify", nil, &report)
	}
	if err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	found, err := st.VerifyAudit(ctx)
	return reportOf(&found), err
}

func reportOf(found *store.AuditCheck) auditReport {
	out := auditReport{OK: len(found.Problems) == 0, Unchained: found.Unchained}
	for _, c := range found.Chains {
		out.Chains = append(out.Chains, auditChain(c))
	}
	for _, p := range found.Problems {
		out.Problems = append(out.Problems, auditProblem{p.Chain, p.Sequence, p.Entry, p.Text})
	}
	return out
}

// sayAudit prints a report.
func sayAudit(cmd *cobra.Command, asJSON bool, r auditReport) error {
	if asJSON {
		return result(cmd, true, r, "")
	}
	for _, c := range r.Chains {
		if err := result(cmd, false, nil, "node %d: %d entries, %d to %d, sealed %s", c.Node, c.Entries, c.First, c.Last, c.Seal); err != nil {
			return err
		}
	}
	if r.Unchained > 0 {
		if err := result(cmd, false, nil, "%d entries are from before the log was chained", r.Unchained); err != nil {
			return err
		}
	}
	for _, p := range r.Problems {
		where := fmt.Sprintf("node %d, entry %d", p.Node, p.Sequence)
		if p.Entry != "" {
			where += " (" + p.Entry + ")"
		}
		if err := result(cmd, false, nil, "%s: %s", where, p.Message); err != nil {
			return err
		}
	}
	return nil
}
