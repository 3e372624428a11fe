// Package cli owns the commands, one per file. It is the only place that connects the other
// packages and prints. A command returns an error, and Run determines the exit code.
package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/posthaste-hq/posthaste/internal/config"
	"github.com/posthaste-hq/posthaste/internal/fault"
)

// Exit codes.
const (
	exitDone    = 0
	exitFailure = 1
	exitUsage   = 2
)

// version is set in releases: -ldflags "-X …/internal/cli.version=1.2.3".
var version = "0.1.0-dev"

// builtFrom is the commit; releases set it together with version, so that their build needs no
// git.
var builtFrom string

// Version returns the program's version, with the commit if that is known.
func Version() string {
	if builtFrom != "" {
		return version + "+" + builtFrom
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" && len(s.Value) >= 12 {
				return version + "+" + s.Value[:12]
			}
		}
	}
	return version
}

// Run runs the command in args and returns the exit code: 0 success, 1 failure, 2 wrong usage.
// ctx ends when the program must stop.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := commands()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &config.Usage{Err: err} })

	cmd, err := unknown(root, args)
	if err == nil {
		cmd, err = root.ExecuteContextC(ctx)
	}
	if err == nil {
		return exitDone
	}
	_, _ = fmt.Fprintf(stderr, "posthaste: %s\n", message(err))
	var usage *config.Usage
	// cobra has no type for unknown commands and surplus arguments.
	if errors.As(err, &usage) || strings.HasPrefix(err.Error(), "unknown command") || strings.Contains(err.Error(), "arg(s)") {
		_, _ = fmt.Fprintf(stderr, "Run '%s --help' for usage.\n", cmd.CommandPath())
		return exitUsage
	}
	return exitFailure
}

// unknown returns the error for an unknown command of a group, with similar names. cobra would
// print the group's help and exit with success.
func unknown(root *cobra.Command, args []string) (*cobra.Command, error) {
	group, rest, err := root.Find(args)
	if err != nil || group.Runnable() || len(rest) == 0 || strings.HasPrefix(rest[0], "-") {
		return nil, nil
	}
	meant := ""
	group.SuggestionsMinimumDistance = 2
	if near := group.SuggestionsFor(rest[0]); len(near) > 0 {
		meant = "; did you mean " + strings.Join(near, " or ") + "?"
	}
	return group, &config.Usage{Err: fmt.Errorf("%s has no command %q%s", group.CommandPath(), rest[0], meant)}
}

// commands returns the program with all its commands.
func commands() *cobra.Command {
	root := &cobra.Command{
		Use:           "posthaste",
		Short:         "Accept events, store them durably and deliver them to subscribed webhook endpoints",
		Version:       Version(),
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.AddCommand(serveCommand(os.LookupEnv), migrateCommand(os.LookupEnv), migrateStoreCommand(os.LookupEnv), keysCommand(os.LookupEnv), usersCommand(os.LookupEnv), accountsCommand(os.LookupEnv), auditCommand(os.LookupEnv), apiKeysCommand(os.LookupEnv), operatorKeysCommand(os.LookupEnv), portalsCommand(os.LookupEnv), loginCommand(os.LookupEnv),
		listenCommand(os.LookupEnv), importCommand(os.LookupEnv), triggerCommand(os.LookupEnv), endpointsCommand(os.LookupEnv), eventsCommand(os.LookupEnv), deliveriesCommand(os.LookupEnv), statisticsCommand(os.LookupEnv),
		verifyCommand(os.LookupEnv), sinkCommand(os.LookupEnv), backupCommand(os.LookupEnv), doctorCommand(os.LookupEnv), healthcheckCommand(os.LookupEnv), logsCommand(os.LookupEnv), manCommand())
	shortDefaults(root)
	return root
}

func shortDefaults(cmd *cobra.Command) {
	config.ShortDefaults(cmd.Flags())
	for _, c := range cmd.Commands() {
		shortDefaults(c)
	}
}

// jsonFlag adds --json to a command without a server.
func jsonFlag(cmd *cobra.Command) *bool {
	return cmd.Flags().Bool("json", false, "print the result as JSON")
}

// result prints the result of a command: as JSON, or as a line of text.
func result(cmd *cobra.Command, asJSON bool, v any, format string, args ...any) error {
	if asJSON {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(v)
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), format+"\n", args...)
	return err
}

// message formats an error with its hint.
func message(err error) string {
	var f *fault.Error
	if errors.As(err, &f) && f.Hint != "" && f.Err == nil {
		return f.Message + "\n  " + f.Hint
	}
	return err.Error()
}
