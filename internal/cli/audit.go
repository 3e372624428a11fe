package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/config"
)

func auditCommand(getenv func(string) (string, bool)) *cobra.Command {
	cmd := &cobra.Command{Use: "audit", Short: "Verify the audit log"}
	verify := &cobra.Command{
		Use: "verify", Short: "Check that no entry of the audit log was changed or removed", Args: cobra.NoArgs,
		Long: "Check that no entry of the audit log was changed or removed since it was written. The entries of each node form\n" +
			"a chain, sealed with a key that requires the master key. The command reads the data directory or the database;\n" +
			"while a server runs on the data directory, it calls that server with the operator key.\n\n" +
			"A second, separate record of the end of the log detects a log that was reset to an older state. If the whole\n" +
			"database was reset, only a comparison with seals stored elsewhere detects it.\n" +
			"Exit code 1 if the log was changed.",
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
			return errors.New("the audit log was changed")
		}
		return nil
	}
	cmd.AddCommand(verify)
	return cmd
}

func verifyAudit(ctx context.Context, c *config.Config) (report account.AuditCheck, err error) {
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
	return st.VerifyAudit(ctx)
}

// sayAudit prints a report.
func sayAudit(cmd *cobra.Command, asJSON bool, r account.AuditCheck) error {
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
		if p.Entry != nil {
			where += " (" + *p.Entry + ")"
		}
		if err := result(cmd, false, nil, "%s: %s", where, p.Message); err != nil {
			return err
		}
	}
	return nil
}
