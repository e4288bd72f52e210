package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Where the host that this program keeps has its things.
const (
	configFile  = "/run/wg-multihome.toml"
	stateDir    = "/run/wg-multihome"
	programFile = "/run/program"
	commands    = "/run/bin" // wg-multihome, with these
)

// kept is the host that the program keeps, as `install` has it: guards at boot, the
// hook of dhclient, and watch. program is its file.
func kept(program int) (keeper, error) {
	err := errors.Join(
		os.WriteFile(configFile, fmt.Appendf(nil, "[uplink.up2]\nfwmark = %#x\n", mark), 0o644),
		os.WriteFile(programFile, nil, 0o755),
		unix.Mount(fmt.Sprintf("/proc/self/fd/%d", program), programFile, "", unix.MS_BIND, ""),
		os.Mkdir(commands, 0o755),
		os.WriteFile(filepath.Join(commands, "wg-multihome"), fmt.Appendf(nil, "#!/bin/sh\nexec %s --config %s --state-dir %s \"$@\"\n", programFile, configFile, stateDir), 0o755),
	)
	command := func(words ...string) []string {
		return append([]string{programFile, "--config", configFile, "--state-dir", stateDir}, words...)
	}
	w := &watch{command: command("watch")}
	return keeper{
		name: "wg-multihome",
		hook: command("exit-hook", "--client", "dhclient"),
		boot: func(h *host) error {
			var complaint bytes.Buffer
			sync, err := h.start(&complaint, nil, command("sync", "--hook")...)
			if err != nil {
				return err
			}
			if err := sync.Wait(); err != nil {
				return fmt.Errorf("wg-multihome sync --hook: %w\n%s", err, complaint.String())
			}
			return w.start(h)
		},
		killed: w.killed,
	}, err
}

// watch is the process that stays.
type watch struct {
	command   []string
	cmd       *exec.Cmd
	complaint *bytes.Buffer
}

func (w *watch) start(h *host) (err error) {
	w.complaint = &bytes.Buffer{}
	w.cmd, err = h.start(w.complaint, nil, w.command...)
	return err
}

// killed kills it, and starts it again after a while, as its unit does. What was not
// running is an error.
func (w *watch) killed(h *host, after time.Duration) error {
	if err := w.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		return fmt.Errorf("kill watch: %w", err)
	}
	if err := w.cmd.Wait(); !isKilled(err) {
		return fmt.Errorf("watch had ended by itself: %w\n%s", err, w.complaint.String())
	}
	if err := h.deleteRules(); err != nil {
		return err
	}
	<-time.After(after)
	return w.start(h)
}
