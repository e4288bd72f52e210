// Wg-multihome keeps each packet on the uplink that it belongs to.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"wg-multihome/cmd/internal/decide"
	"wg-multihome/cmd/internal/host"
	"wg-multihome/cmd/internal/logging"
	"wg-multihome/cmd/internal/report"
	"wg-multihome/cmd/internal/run"
	"wg-multihome/cmd/internal/state"
	"wg-multihome/fwmark/config"
	"wg-multihome/fwmark/spelling"
)

// Where things are unless a flag says otherwise.
const (
	interfacesFile = "/etc/network/interfaces"
	configFile     = "/etc/wg-multihome.toml"
	stateDir       = "/run/wg-multihome"
)

// lockWait is how long a run waits for another one; hookWait where the caller
// waits for it and breaks on failure.
const (
	lockWait = 30 * time.Second
	hookWait = 5 * time.Second
)

// gcPercent has Go's garbage collector run late: for the first time when the
// heap has 32 MiB, not 4 MiB as by default. A run needs a few MiB for some
// milliseconds, and all of it is freed when the process ends. With 100, the rules
// and routes of a thousand addresses take 12% more CPU time and 8 of 26 MiB less.
//
// It is a ratio and no limit (GOMEMLIMIT), on purpose: on a host that is large
// enough the heap would stay above any limit, and the collector would never stop.
const gcPercent = 800

func main() {
	if status, inside := run.Inside(os.Args); inside {
		os.Exit(status)
	}
	debug.SetGCPercent(gcPercent)
	os.Exit(start(os.Args[1:]))
}

func start(args []string) int {
	// An ignored signal stays so, for a command that we run as well.
	ends := slices.DeleteFunc([]os.Signal{syscall.SIGINT, syscall.SIGTERM}, signal.Ignored)
	ctx, stop := signal.NotifyContext(context.Background(), ends...)
	defer stop()
	outlive()
	p := &program{}
	defer func() { p.logger().Flush() }()
	root := p.command()
	root.SetArgs(args)
	root.SetOut(output{os.Stdout})
	cmd, err := root.ExecuteContextC(ctx)
	var exit exitError
	status := report.Done
	switch {
	case errors.As(err, &exit):
		status = exit.status
	case err != nil: // cobra's own: an unknown command or flag
		p.logger().Errorf("%s; see `%s`", err, helpOn(cmd))
		status = report.Usage
	}
	if breaks(args) {
		return report.Done
	}
	return status
}

// breaks reports whether the caller breaks on failure: wg-quick deletes the
// interface when a PostUp fails. So not even a wrong flag beside --hook may.
// What follows `--` is a command's.
func breaks(args []string) bool {
	if i := slices.Index(args, "--"); i >= 0 {
		args = args[:i]
	}
	return slices.Contains(args, "sync") && slices.ContainsFunc(args, func(a string) bool {
		value, given := strings.CutPrefix(a, "--hook=")
		is, err := strconv.ParseBool(value) // as the flag itself is read
		return a == "--hook" || given && is && err == nil
	})
}

// exitError carries an exit status out of a command that has said why itself.
type exitError struct{ status int }

func (e exitError) Error() string { return fmt.Sprintf("exit status %d", e.status) }

func exit(status int) error {
	if status == report.Done {
		return nil
	}
	return exitError{status}
}

// program is what the flags of all commands say.
type program struct {
	config  string
	state   string
	verbose bool
	named   bool // --config was given
	log     *logging.Logger
}

func (p *program) command() *cobra.Command {
	root := &cobra.Command{
		Use:   "wg-multihome",
		Short: "Keep each packet on the uplink that it belongs to",
		Long: `Keeps source rules, fwmark rules that fail closed and the marks of WireGuard
devices, for hosts with several uplinks. A packet that is pinned to an uplink
leaves by that uplink or not at all.

Exit status: 0 done, or nothing to do; 1 some step failed, the others were
done; 2 bad usage, nothing was changed, a bad lease event, not recorded, or bad
configuration, its valid part was done; 3 only with --exit-code.`,
		Version:       version(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("unknown command %q%s", args[0], spelling.DidYouMean(args[0], commands(cmd)))
			}
			return errors.New("a command is missing")
		},
		PersistentPreRun: func(cmd *cobra.Command, _ []string) { p.named = cmd.Flags().Changed("config") },
	}
	root.SetVersionTemplate("{{.Name}} {{.Version}}\n")
	root.SetFlagErrorFunc(suggestFlag)
	root.SetHelpCommand(p.help())
	root.PersistentFlags().StringVar(&p.config, "config", configFile, "configuration `FILE`; the default one may be absent")
	root.PersistentFlags().StringVar(&p.state, "state-dir", stateDir, "`DIR` for lease records, what was told, and locks")
	root.PersistentFlags().BoolVarP(&p.verbose, "verbose", "v", false, "say more on stderr")
	root.AddCommand(p.exitHook(), p.sync(), p.hook(), p.plan(), p.status(), p.refresh(), p.run(), p.explain(), p.doctor(), p.watch(), p.confirm(), p.revert(), p.down(), p.install(), p.uninstall(), p.completion())
	completeFlags(root)
	return root
}

func (p *program) logger() *logging.Logger {
	if p.log == nil {
		p.log = logging.New(os.Stderr, p.verbose)
	}
	return p.log
}

func (p *program) dir() state.Dir { return state.Dir(p.state) }

// begin opens a session; its error is said, and an exit status. person says that
// a person asked for what follows, so that guards of marks that are configured
// no longer go.
func (p *program) begin(person bool) (*session, error) {
	if err := p.checkConfig(); err != nil {
		p.logger().Errorf("%s", err)
		return nil, exitError{report.Usage}
	}
	return p.beginHook(person)
}

// look begins a session for a person, and looks at the host. Errors are said.
func (p *program) look(ctx context.Context) (*session, decide.Decision, error) {
	s, err := p.begin(true)
	if err != nil {
		return nil, decide.Decision{}, err
	}
	d, err := s.Look(ctx)
	if err != nil {
		s.Close()
		return nil, d, p.finish(report.Failed(err))
	}
	return s, d, nil
}

// checkConfig refuses a configuration file that was named and is not there.
func (p *program) checkConfig() error {
	if !p.named {
		return nil
	}
	if _, err := os.Stat(p.config); errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("read configuration: %w", err)
	}
	return nil
}

// beginHook is begin for callers that nobody looks at: to them a named file that
// is not there is an error in the configuration, and the rest is done.
func (p *program) beginHook(person bool) (*session, error) {
	files := config.Files{Interfaces: interfacesFile, TOML: p.config, TOMLNamed: p.named}
	h, err := host.Open(files, p.dir(), p.logger())
	if err != nil {
		p.logger().Errorf("%s", err)
		return nil, exitError{report.Error}
	}
	return newSession(h, person, p.keeper()), nil
}

// finish says what went wrong in a run, and makes it an exit status.
func (p *program) finish(r report.Report) error {
	for _, problem := range r.Problems {
		p.logger().Errorf("%s", problem.Error())
	}
	for _, err := range r.Errs {
		p.logger().Errorf("%s", err)
	}
	return exit(r.Status())
}
