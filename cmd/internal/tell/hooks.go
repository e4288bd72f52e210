package tell

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"wg-multihome/cmd/internal/decide"
	"wg-multihome/cmd/internal/logging"
	"wg-multihome/cmd/internal/systemd"
)

// hooksDir holds the hooks, as it does for the original shell script.
const hooksDir = "/etc/dhcp/multihomed.d"

// runPartsPaths are where run-parts(8) is: Debian's, then busybox's.
var runPartsPaths = []string{"/usr/bin/run-parts", "/bin/run-parts"}

// maxHookOutput bounds what is kept of the hooks' output, in bytes.
const maxHookOutput = 16 << 10

// killAfter is how long hooks have to end by themselves once their time is
// over.
const killAfter = 2 * time.Second

// runHooks runs all hooks for one piece of news, within what is left of the
// time for all of them. ran is false where they were not run at all, and it is
// to be told again. A missing directory is no error: there are no hooks.
func runHooks(ctx context.Context, log *logging.Logger, n decide.News, left time.Duration, outside bool) (ran bool, err error) {
	if _, err := os.Stat(hooksDir); errors.Is(err, fs.ErrNotExist) {
		return true, nil
	} else if err != nil {
		return false, err
	}
	runParts := slices.IndexFunc(runPartsPaths, func(p string) bool { _, err := os.Stat(p); return err == nil })
	if runParts < 0 {
		return false, fmt.Errorf("run-parts is neither %s, so hooks were not run", strings.Join(runPartsPaths, " nor "))
	}
	if left <= 0 {
		return false, errors.New("hook-timeout, which is for all hooks of a run, is over: they are left to watch, or the next run")
	}
	limit, cancel := context.WithTimeout(ctx, left)
	defer cancel()
	var out capped
	command := []string{runPartsPaths[runParts], hooksDir} // by absolute path
	env := append([]string{systemd.Path}, environment(n)...)
	if run := systemd.RunPath(); outside && run != "" {
		command = bySystemd(run, command, env, left, systemd.HasBus())
	}
	cmd := exec.CommandContext(limit, command[0], command[1:]...)
	cmd.Env = env
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = &out, &out
	// A group of its own, so that what hooks start can be ended with them.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = killAfter
	begun := time.Now()
	err = wait(limit, cmd)
	for line := range out.lines() {
		log.Infof("hook: %s", line)
	}
	if errors.Is(err, exec.ErrWaitDelay) && limit.Err() == nil {
		err = fmt.Errorf("a hook left a process that held on to its output for %s; the hooks' process group was ended", killAfter)
	}
	if limit.Err() != nil {
		return ctx.Err() == nil, fmt.Errorf("run-parts %s was ended after %s", hooksDir, time.Since(begun).Round(time.Millisecond))
	}
	if err != nil {
		return true, fmt.Errorf("run-parts %s: %w", hooksDir, err)
	}
	return true, nil
}

// bySystemd is the command that has systemd run another one, as a unit of its own,
// and waits for it. Should that wait be cut short, the unit ends by itself. program is
// systemd-run(1), which hands on its own output and waits for a unit's end by D-Bus alone.
// Where there is none the unit is taken for started once the command is done,
// and what it says is in the journal.
func bySystemd(program string, command, env []string, left time.Duration, bus bool) []string {
	most := max(1, int(left.Seconds()))
	run := []string{program, "--quiet", "--collect", "--description=hooks of wg-multihome", "--working-directory=/", fmt.Sprintf("--property=TimeoutStopSec=%d", int(killAfter.Seconds()))}
	if bus {
		run = append(run, "--pipe", "--wait", "--service-type=exec", fmt.Sprintf("--property=RuntimeMaxSec=%d", most))
	} else {
		run = append(run, "--service-type=oneshot", fmt.Sprintf("--property=TimeoutStartSec=%d", most), "--property=SyslogIdentifier=wg-multihome")
	}
	for _, variable := range env {
		run = append(run, "--setenv="+variable)
	}
	return append(append(run, "--"), command...)
}

// wait runs the hooks to their end, or to that of their time; then nothing of
// their process group is left, neither a child that holds on to our pipe.
func wait(limit context.Context, cmd *exec.Cmd) error {
	if err := cmd.Start(); err != nil {
		return err
	}
	err := cmd.Wait()
	if limit.Err() != nil || errors.Is(err, exec.ErrWaitDelay) {
		// ESRCH: nothing is left. The group's number is not used again while
		// any member of it lives.
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	}
	return err
}

// capped keeps the first maxHookOutput bytes that are written to it.
type capped struct {
	kept bytes.Buffer // no embedding: io.Copy would use its ReadFrom, which has no limit
}

func (c *capped) Write(p []byte) (int, error) {
	if room := maxHookOutput - c.kept.Len(); room > 0 {
		c.kept.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}

func (c *capped) lines() func(yield func(string) bool) {
	return func(yield func(string) bool) {
		s := bufio.NewScanner(&c.kept)
		for s.Scan() {
			if !yield(s.Text()) {
				return
			}
		}
	}
}

// environment is what hooks get beside a PATH: the original script's three
// variables, and ours.
func environment(n decide.News) []string {
	value := func(a netip.Addr) string {
		if !a.IsValid() || a.IsUnspecified() {
			return ""
		}
		return a.String()
	}
	mark, table := "", ""
	if !n.Mark.IsZero() {
		mark = n.Mark.String()
	}
	if n.Table != 0 {
		table = strconv.FormatUint(uint64(n.Table), 10)
	}
	return []string{
		"IFACE=" + n.Uplink,
		"FWMARK=" + mark,
		"TABLE_ID=" + table,
		eventVariable + "=" + n.Event,
		"MULTIHOMED_FAMILY=" + n.Family.String(),
		"MULTIHOMED_OLD_ADDRESS=" + value(n.Old),
		"MULTIHOMED_NEW_ADDRESS=" + value(n.Now.Address),
		"MULTIHOMED_GATEWAY=" + value(n.Now.Gateway),
		"MULTIHOMED_WIREGUARD=" + strings.Join(n.Devices, " "),
	}
}
