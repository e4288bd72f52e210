package converge

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"time"
)

// HooksDir holds the hooks, as it does for the original shell script.
const HooksDir = "/etc/dhcp/multihomed.d"

// runPartsPaths are where run-parts(8) is: Debian's, then busybox's.
var runPartsPaths = []string{"/usr/bin/run-parts", "/bin/run-parts"}

// hookPath is the PATH of hooks.
const hookPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// maxHookOutput bounds what is kept of the hooks' output, in bytes.
const maxHookOutput = 16 << 10

// runHooks runs all hooks for one piece of news, within the configured time.
// ran is false where they were not run at all, and it is to be told again. A
// missing directory is no error: there are no hooks.
func (h *Host) runHooks(ctx context.Context, n News) (ran bool, err error) {
	if _, err := os.Stat(HooksDir); errors.Is(err, fs.ErrNotExist) {
		return true, nil
	} else if err != nil {
		return false, err
	}
	runParts := slices.IndexFunc(runPartsPaths, func(p string) bool { _, err := os.Stat(p); return err == nil })
	if runParts < 0 {
		return false, fmt.Errorf("run-parts is neither %s, so hooks were not run", joinPaths(runPartsPaths))
	}
	limit, cancel := context.WithTimeout(ctx, h.HookTime())
	defer cancel()
	var out capped
	cmd := exec.CommandContext(limit, runPartsPaths[runParts], HooksDir) // run-parts, by absolute path
	cmd.Env = append([]string{hookPath}, n.environment()...)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = &out, &out
	// A group of its own, so that what hooks start can be ended with them.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = killAfter
	begun := time.Now()
	err = h.wait(limit, cmd)
	for line := range out.lines() {
		h.Log.Infof("hook: %s", line)
	}
	if errors.Is(err, exec.ErrWaitDelay) && limit.Err() == nil {
		err = fmt.Errorf("a hook left a process that held on to its output for %s; the hooks' process group was ended", killAfter)
	}
	if limit.Err() != nil {
		return ctx.Err() == nil, fmt.Errorf("run-parts %s was ended after %s", HooksDir, time.Since(begun).Round(time.Millisecond))
	}
	if err != nil {
		return true, fmt.Errorf("run-parts %s: %w", HooksDir, err)
	}
	return true, nil
}

// wait runs the hooks to their end, or to that of their time; then nothing of
// their process group is left, neither a child that holds on to our pipe.
func (h *Host) wait(limit context.Context, cmd *exec.Cmd) error {
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

func joinPaths(paths []string) string {
	text := ""
	for i, p := range paths {
		if i > 0 {
			text += " nor "
		}
		text += p
	}
	return text
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
