package install

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"wg-multihome/cmd/internal/systemd"
)

// managerPatience bounds one call of systemctl. A unit of ours starts in some
// hundred milliseconds, but waits for another run's lock.
const managerPatience = 90 * time.Second

// Manager is this host's systemd.
type Manager struct {
	// Runs says that it is PID 1 (sd_booted(3)). Else units can be enabled, and that is
	// all.
	Runs bool
	// Say is told each change before it is made.
	Say func(format string, args ...any)
}

// NewManager learns whether systemd runs.
func NewManager(say func(format string, args ...any)) Manager {
	return Manager{Runs: systemd.Runs(), Say: say}
}

// Begin has units enabled and started, as far as they are not, and started anew where
// they run on with another file, or another program, than there is now. It reports
// whether it had anything to do. changed says that files of units have changed.
func (m Manager) Begin(ctx context.Context, units []Unit, changed bool) (did bool, err error) {
	if changed && m.Runs {
		if err := m.change(ctx, "daemon-reload"); err != nil {
			return true, err
		}
	}
	for _, unit := range units {
		var acts []string
		if !m.is(ctx, "is-enabled", unit.Name) {
			acts = append(acts, "enable")
		}
		switch {
		case !m.Runs:
		case !m.is(ctx, "is-active", unit.Name):
			acts = append(acts, "start")
		case unit.Stays && (unit.New || m.outdated(ctx, unit.Name)):
			acts = append(acts, "restart")
		}
		for _, act := range acts {
			did = true
			if err := m.change(ctx, act, unit.Name); err != nil {
				return did, err
			}
		}
	}
	return did || changed, nil
}

// outdated reports whether a unit runs a program whose file has been replaced.
func (m Manager) outdated(ctx context.Context, unit string) bool {
	pid, err := m.call(ctx, "show", "-P", "MainPID", unit)
	if err != nil {
		return false
	}
	path, err := os.Readlink(filepath.Join("/proc", strings.TrimSpace(pid), "exe"))
	return err == nil && strings.HasSuffix(path, " (deleted)")
}

// End has units stopped and disabled, while their files are still there.
func (m Manager) End(ctx context.Context, units []Unit) error {
	for _, unit := range units {
		args := []string{"disable", unit.Name}
		if m.Runs {
			args = []string{"disable", "--now", unit.Name}
		}
		if err := m.change(ctx, args...); err != nil {
			return err
		}
	}
	return nil
}

// Reload has it read files of units again.
func (m Manager) Reload(ctx context.Context) error {
	if !m.Runs {
		return nil
	}
	return m.change(ctx, "daemon-reload")
}

// Active reports whether a unit runs.
func (m Manager) Active(ctx context.Context, unit string) bool {
	return m.Runs && m.is(ctx, "is-active", unit)
}

func (m Manager) is(ctx context.Context, question, unit string) bool {
	_, err := m.call(ctx, question, unit)
	return err == nil
}

func (m Manager) change(ctx context.Context, args ...string) error {
	m.Say("= systemctl %s", strings.Join(args, " "))
	_, err := m.call(ctx, args...)
	return err
}

// call calls systemctl(1), and returns what it said.
func (m Manager) call(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, managerPatience)
	defer cancel()
	cmd, err := systemd.Command(ctx, "systemctl", append([]string{"--quiet"}, args...)...)
	if err != nil {
		return "", err
	}
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	said, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("systemctl %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(complaint.Bytes()))
	}
	return string(said), nil
}
