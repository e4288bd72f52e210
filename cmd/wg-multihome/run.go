package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"wg-multihome/cmd/internal/run"
)

func (p *program) run() *cobra.Command {
	var user string
	cmd := &cobra.Command{
		Use:   "run [flags] UPLINK -- COMMAND [ARGUMENT...]",
		Short: "Run a command pinned to an uplink",
		Long: `Runs a command as root whose packets, and those of all that it starts, leave by
the uplink or not at all. It runs in a cgroup of its own, through systemd-run
where systemd runs, once sync has been done and the uplink's mark is in force.
The uplink must have a mark, and an address.

Signals are passed on; INT and QUIT not where we are in a terminal's foreground:
its keys reach the command anyway.

With --user it has that user's HOME, USER, LOGNAME and SHELL, and the caller's
PATH, TERM, LANG and LC_*, but nothing else of the environment (env VAR=VALUE in
front of the command gives it more). It cannot type into the caller's terminal
(TIOCSTI): it has one of its own, which is hung up when it ends, with what it has
left in the background.

Reads: what sync reads, /etc/passwd and /etc/group for --user.
Writes: what sync writes; a cgroup below wgmultihome.slice, removed afterwards,
or by a later run or sync where processes live on in it.
Exits with the command's exit status, 128 and the signal's number where one
ended it; else the command was not started: 1 it cannot be pinned, or there is no
such user; 2 bad usage; 126 it cannot be executed; 127 it was not found.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) < 3 || args[1] != "--" {
				return errors.New("an uplink, `--` or a command is missing: run [flags] UPLINK -- COMMAND [ARGUMENT...]")
			}
			return nil
		},
		ValidArgsFunction: p.completeRun,
	}
	cmd.Flags().SetInterspersed(false) // what follows UPLINK is the command's
	cmd.Flags().StringVar(&user, "user", "", "drop privileges to those of `NAME`, groups included")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if cmd.Flags().Changed("user") && user == "" { // a script's variable that is not set: not root's privileges
			return errors.New("--user is empty: it takes the name of a user")
		}
		p.logger().Hush()
		s, err := p.begin(false)
		if err != nil {
			return err
		}
		defer s.Close()
		r := run.Runner{Host: s, Log: p.logger(), Wait: lockWait}
		status, err := r.Run(cmd.Context(), run.Request{Uplink: args[0], User: user, Command: args[2:]})
		if err != nil {
			p.logger().Errorf("%s", fmt.Errorf("run: %w", err))
		}
		return exit(status)
	}
	return cmd
}
