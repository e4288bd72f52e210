//go:build guest

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"wg-multihome/test/lab"
)

// service is one of the machine's own systemd: it asks far, on the lab's
// host, and ends.
type service struct {
	t    *testing.T
	name string
	said string // the file that has what far saw
}

// newService writes a unit with further lines in its [Service].
func newService(t *testing.T, l *lab.Lab, name, network, lines string) service {
	t.Helper()
	s := service{t, name, filepath.Join(t.TempDir(), "said")}
	variable, command := l.Asking(lab.Query{Network: network, Far: lab.Far4})
	path := filepath.Join("/run/systemd/system", name)
	fatal(t, os.WriteFile(path, []byte(fmt.Sprintf("[Service]\nType=oneshot\nEnvironment=%s\nStandardOutput=truncate:%s\nExecStart=%s\n%s", variable, s.said, command, lines)), 0o644))
	t.Cleanup(func() { _ = os.Remove(path) })
	systemctl(t, "daemon-reload")
	return s
}

// restart starts it anew, in a new cgroup, and returns what far saw of the
// first thing that it sent.
func (s service) restart() string {
	s.t.Helper()
	systemctl(s.t, "restart", s.name)
	text, err := os.ReadFile(s.said)
	fatal(s.t, err)
	return strings.TrimSpace(string(text))
}

func systemctl(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("systemctl", args...).CombinedOutput(); err != nil {
		journal, _ := exec.Command("journalctl", "--no-pager", "-n", "40").CombinedOutput()
		t.Fatalf("systemctl %v: %v\n%s%s", args, err, out, journal)
	}
}

// units is a lab on a machine that systemd runs, with a mark for up2 and its
// cgroups, and the command that has a unit converge it. These units are all
// that systemd 252 knows: NFTSet= takes 255.
func units(t *testing.T, cgroup string) (l *lab.Lab, sync string) {
	t.Helper()
	l = newLab(t)
	l.Static()
	dir := t.TempDir()
	config := filepath.Join(dir, "config.toml")
	fatal(t, os.WriteFile(config, []byte(fmt.Sprintf("[uplink.up2]\nfwmark = %#x\ncgroups = [%q]\n", mark, cgroup)), 0o644))
	args := l.Outside(l.Binary, "sync", "--hook", "--config", config, "--state-dir", filepath.Join(dir, "state")).Args
	return l, "/usr/bin/" + strings.Join(args, " ")
}

// TestSystemdUnitIsPinnedFromItsFirstPacket restarts a unit that has
// ExecStartPre; one without it shows that each start needs it.
func TestSystemdUnitIsPinnedFromItsFirstPacket(t *testing.T) {
	for _, network := range []string{"udp", "tcp"} {
		t.Run(network, func(t *testing.T) {
			name := "wgmh-test-" + network + ".service"
			l, sync := units(t, name)
			pinned := newService(t, l, name, network, "ExecStartPre=+"+sync+"\n")
			other := counting(t, l.ISP1, "prerouting priority -300", "iifname home th dport 7")
			for i := range 3 {
				if got := pinned.restart(); got != two4 {
					t.Errorf("start %d: far saw %q, want %q", i, got, two4)
				}
			}
			if n := other(); n != 0 {
				t.Errorf("%d packets left by the other uplink", n)
			}
			bare := newService(t, l, name, network, "")
			if got := bare.restart(); got != one4 {
				t.Errorf("without ExecStartPre far saw %q, want %q: nothing was proved", got, one4)
			}
		})
	}
}

// TestSystemdSliceIsPinned lists the slice, whose id outlives its service.
func TestSystemdSliceIsPinned(t *testing.T) {
	l, sync := units(t, "wgmhtest.slice")
	slice := newService(t, l, "wgmh-in-slice.service", "udp", "Slice=wgmhtest.slice\n")
	if got := slice.restart(); got != one4 {
		t.Errorf("before any run of ours far saw %q, want %q", got, one4)
	}
	if out, err := exec.Command("sh", "-c", sync).CombinedOutput(); err != nil {
		t.Fatalf("sync: %v\n%s", err, out)
	}
	for i := range 2 {
		if got := slice.restart(); got != two4 {
			t.Errorf("start %d: far saw %q, want %q", i, got, two4)
		}
	}
}
