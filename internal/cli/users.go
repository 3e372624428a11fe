package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/posthaste-hq/posthaste/internal/account"
	"github.com/posthaste-hq/posthaste/internal/config"
	"github.com/posthaste-hq/posthaste/internal/event"
	"github.com/posthaste-hq/posthaste/internal/service"
	"github.com/posthaste-hq/posthaste/internal/service/auth"
	"github.com/posthaste-hq/posthaste/internal/service/call"
)

// userLine is a user as the commands print it.
type userLine struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	Role     string `json:"role"`
	Disabled bool   `json:"disabled"`
	Password string `json:"password,omitempty"` // if it was generated
}

func usersCommand(getenv func(string) (string, bool)) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "users",
		Short: "Manage the users of the Admin UI",
		Long: "Manage the users of the Admin UI. The commands work on the data directory; while a server runs on it,\n" +
			"they call that server with the operator key, from POSTHASTE_ADMIN_KEY or the data directory.\n\n" +
			"A viewer can read everything except secrets; a member can also change endpoints and resend events; an\n" +
			"admin can also manage API keys, accounts and users.",
	}
	cmd.AddCommand(createUserCommand(getenv), updateUserCommand(getenv), unlockUserCommand(getenv), listUsersCommand(getenv))
	return cmd
}

// passwordOf returns the password from standard input, or a generated one.
func passwordOf(cmd *cobra.Command, fromInput bool) (password string, made bool, err error) {
	if !fromInput {
		return account.NewPassword(), true, nil
	}
	line, err := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
	password = strings.TrimRight(line, "\r\n")
	if password == "" {
		return "", false, fmt.Errorf("read the password from standard input: %w", errors.Join(err, errors.New("it is empty")))
	}
	return password, false, nil
}

func createUserCommand(getenv func(string) (string, bool)) *cobra.Command {
	var role string
	var fromInput bool
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Create a user and print its password", Args: cobra.ExactArgs(1),
		Example: "  posthaste users create alice --role admin --data /var/lib/posthaste\n  posthaste users create bob --role viewer --password-stdin < password.txt",
	}
	settings := config.Flags(cmd.Flags(), config.Store, config.Secrets, config.Dev, config.Server)
	cmd.Flags().StringVar(&role, "role", string(account.UserMember), "viewer, member or admin")
	cmd.Flags().BoolVar(&fromInput, "password-stdin", false, "read the password, a line, from standard input")
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		password, made, err := passwordOf(cmd, fromInput)
		if err != nil {
			return err
		}
		in := auth.UserParams{Name: &args[0], Role: &role, Password: &password}
		out, err := onUsers(cmd, settings, getenv, func(ctx context.Context, s *service.Service, c *call.Call) (account.User, error) {
			return s.Auth.CreateUser(ctx, c, in)
		}, func(ctx context.Context, c *config.Config, out *userLine) error {
			return askServer(ctx, c, http.MethodPost, "/v1/users", map[string]any{"name": args[0], "role": role, "password": password}, out)
		})
		if err != nil {
			return err
		}
		return sayUser(cmd, *asJSON, out, "made", password, made)
	}
	return cmd
}

// sayUser prints a user, and a generated password.
func sayUser(cmd *cobra.Command, asJSON bool, u userLine, done, password string, made bool) error {
	text := fmt.Sprintf("The %s %s was %s.", u.Role, u.Name, done)
	if made {
		u.Password = password
		text += " Password: " + password
	}
	return result(cmd, asJSON, u, "%s", text)
}

func updateUserCommand(getenv func(string) (string, bool)) *cobra.Command {
	var role string
	var newPassword, fromInput, disable, enable bool
	cmd := &cobra.Command{
		Use: "update NAME", Short: "Change a user; all sessions of the user end", Args: cobra.ExactArgs(1),
		Example: "  posthaste users update alice --new-password\n  posthaste users update bob --role member\n  posthaste users update bob --disable",
	}
	settings := config.Flags(cmd.Flags(), config.Store, config.Secrets, config.Dev, config.Server)
	f := cmd.Flags()
	f.StringVar(&role, "role", "", "viewer, member or admin")
	f.BoolVar(&newPassword, "new-password", false, "generate a new password and print it")
	f.BoolVar(&fromInput, "password-stdin", false, "read the new password, a line, from standard input")
	f.BoolVar(&disable, "disable", false, "prevent the user from signing in")
	f.BoolVar(&enable, "enable", false, "allow the user to sign in again")
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		switch {
		case role == "" && !newPassword && !fromInput && !disable && !enable:
			return &config.Usage{Err: errors.New("nothing to change: set one of  --role, --new-password, --password-stdin, --disable or --enable")}
		case disable && enable:
			return &config.Usage{Err: errors.New("use --disable or --enable, not both")}
		case newPassword && fromInput:
			return &config.Usage{Err: errors.New("use --new-password or --password-stdin, not both")}
		}
		in, body := auth.UserParams{}, map[string]any{}
		var password string
		var made bool
		if newPassword || fromInput {
			var err error
			if password, made, err = passwordOf(cmd, fromInput); err != nil {
				return err
			}
			in.Password, body["password"] = &password, password
		}
		if role != "" {
			in.Role, body["role"] = &role, role
		}
		if disable || enable {
			in.Disabled, body["disabled"] = &disable, disable
		}
		out, err := onUsers(cmd, settings, getenv, func(ctx context.Context, s *service.Service, c *call.Call) (account.User, error) {
			u, err := s.Store.UserNamed(ctx, args[0])
			if err != nil {
				return u, err
			}
			return s.Auth.UpdateUser(ctx, c, u.ID, in)
		}, func(ctx context.Context, c *config.Config, out *userLine) error {
			return askAboutUser(ctx, c, args[0], "", body, out)
		})
		if err != nil {
			return err
		}
		return sayUser(cmd, *asJSON, out, "changed", password, made)
	}
	return cmd
}

func unlockUserCommand(getenv func(string) (string, bool)) *cobra.Command {
	cmd := &cobra.Command{Use: "unlock NAME", Short: "Reset the count of failed sign-ins of a user", Args: cobra.ExactArgs(1),
		Example: "  posthaste users unlock alice --data /var/lib/posthaste"}
	settings := config.Flags(cmd.Flags(), config.Store, config.Secrets, config.Dev, config.Server)
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		out, err := onUsers(cmd, settings, getenv, func(ctx context.Context, s *service.Service, c *call.Call) (account.User, error) {
			u, err := s.Store.UserNamed(ctx, args[0])
			if err != nil {
				return u, err
			}
			return s.Auth.Unlock(ctx, c, u.ID)
		}, func(ctx context.Context, c *config.Config, out *userLine) error {
			return askAboutUser(ctx, c, args[0], "/unlock", map[string]any{}, out)
		})
		if err != nil {
			return err
		}
		return sayUser(cmd, *asJSON, out, "unlocked", "", false)
	}
	return cmd
}

// askAboutUser makes the server change the user with a name.
func askAboutUser(ctx context.Context, c *config.Config, name, action string, body map[string]any, out *userLine) error {
	var all struct{ Data []userLine }
	if err := askServer(ctx, c, http.MethodGet, "/v1/users", nil, &all); err != nil {
		return err
	}
	for _, u := range all.Data {
		if u.Name == name {
			return askServer(ctx, c, http.MethodPost, "/v1/users/"+u.ID+action, body, out)
		}
	}
	return fmt.Errorf("there is no user %q", name)
}

func listUsersCommand(getenv func(string) (string, bool)) *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List users", Args: cobra.NoArgs, Example: "  posthaste users list --data /var/lib/posthaste"}
	settings := config.Flags(cmd.Flags(), config.Store, config.Secrets, config.Dev, config.Server)
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var all []userLine
		_, err := onUsers(cmd, settings, getenv, func(ctx context.Context, s *service.Service, c *call.Call) (account.User, error) {
			users, err := s.Auth.ListUsers(ctx, c)
			for i := range users {
				all = append(all, lineOf(&users[i]))
			}
			return account.User{}, err
		}, func(ctx context.Context, c *config.Config, _ *userLine) error {
			var page struct{ Data []userLine }
			err := askServer(ctx, c, http.MethodGet, "/v1/users", nil, &page)
			all = page.Data
			return err
		})
		if err != nil {
			return err
		}
		for _, u := range all {
			state := ""
			if u.Disabled {
				state = "disabled"
			}
			if err := result(cmd, *asJSON, u, "%-24s %-8s %s", u.Name, u.Role, state); err != nil {
				return err
			}
		}
		return nil
	}
	return cmd
}

func lineOf(u *account.User) userLine {
	return userLine{ID: u.ID, Name: u.Name, Role: string(u.Role), Disabled: u.Disabled}
}

// onUsers uses the data directory itself or, while a server uses it, calls that server.
func onUsers(cmd *cobra.Command, settings *config.Settings, getenv func(string) (string, bool),
	offline func(context.Context, *service.Service, *call.Call) (account.User, error),
	online func(context.Context, *config.Config, *userLine) error,
) (out userLine, err error) {
	ctx := cmd.Context()
	c, err := settings.Load(getenv)
	if err != nil {
		return out, err
	}
	keys, err := openMasterKeys(c)
	if err != nil {
		return out, err
	}
	st, err := openStore(ctx, c, keys.ring)
	if inUse(err) {
		return out, online(ctx, c, &out)
	}
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	s := service.New(service.Config{Store: st, IDs: event.NewIDs(event.NewKeys(time.Now, 0)), Now: time.Now, Log: slog.New(slog.DiscardHandler)})
	u, err := offline(ctx, s, &call.Call{Key: account.Key{ID: account.System, Role: account.Operator}})
	return lineOf(&u), err
}
