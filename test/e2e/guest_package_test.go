//go:build guest

package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wg-multihome/test/lab"
)

// packagedProgram is where the package has the program.
const packagedProgram = "/usr/sbin/wg-multihome"

// dpkg runs it; it must succeed, and nothing is to ask.
func dpkg(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.Command("dpkg", append([]string{"--force-unsafe-io"}, args...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("dpkg %v: %v\n%s", args, err, out)
	}
}

// TestSystemdPackage goes through the life of the package on a machine that systemd
// runs. It works from the moment that it is installed; an upgrade under traffic of a
// pinned sender stops none of it, and lets none of it out elsewhere; without the
// package nothing of ours is left.
func TestSystemdPackage(t *testing.T) {
	onMachine(t)
	one, two := packages(t)
	l := lab.Here(t, packagedProgram)
	t.Cleanup(func() {
		_ = exec.Command("dpkg", "-P", "wg-multihome").Run()
		l.Script("ip rule flush; ip rule add priority 32766 lookup main; ip rule add priority 32767 lookup default")
	})
	l.Static()
	before := l.State()
	machineFile(t, "/etc/wg-multihome.toml", pinnedHere, 0o644)

	dpkg(t, "-i", one)
	for _, unit := range installedUnits {
		systemctl(t, "is-enabled", unit)
		systemctl(t, "is-active", unit)
	}
	settles(t, l)
	l.WantSeen(lab.Far4, "", mark, two4)

	sent(t, l.ISP1)
	sent(t, l.ISP2)
	stop := pinnedSender(t)
	watch := mainPID(t)
	dpkg(t, "-i", two)
	lab.Until(t, "watch is the new program's", func() bool { return mainPID(t) != watch })
	settles(t, l)
	attempts, refused := stop()
	leaked, right := sent(t, l.ISP1), sent(t, l.ISP2)
	t.Logf("upgrade: %d packets, %d refused, %d by the other uplink, %d by their own", attempts, refused, leaked, right)
	if attempts < 100 || refused != 0 || leaked != 0 || right != attempts {
		t.Error("want more than 100, none refused, none by the other uplink, all by their own")
	}
	wantPart(t, "the version", hereMH(t, l, "--version").Stdout, "2, ")

	dpkg(t, "-r", "wg-multihome")
	wantEqual(t, "state after remove", l.State(), before)
	if out, err := exec.Command("nft", "list", "table", "inet", "wg_multihome").CombinedOutput(); err == nil {
		t.Errorf("the table is left:\n%s", out)
	}
	left := notBegin(l.Script(ourFiles), "/etc/wg-multihome.toml", "/etc/systemd/system/", "/run/", "/var/lib/systemd/")
	wantEqual(t, "what remove leaves, but for state", left, conffiles)
	// A lease that comes now is nobody's.
	l.Script("IFACE=up2 /etc/network/if-up.d/zz-wg-multihome; . /etc/dhcp/dhclient-exit-hooks.d/zz-wg-multihome")
	wantEqual(t, "state after a hook", l.State(), before)

	dpkg(t, "-P", "wg-multihome")
	wantEqual(t, "what purge leaves", l.Script(ourFiles), "")
}

// TestSystemdPackageDemo runs the package's demo as nobody, on Debian's kernel: it says
// that users are denied namespaces where Debian's own sysctl does, and takes nothing but
// the kernel where they are not.
func TestSystemdPackageDemo(t *testing.T) {
	one, _ := packages(t)
	dir, err := os.MkdirTemp("", "demo")
	fatal(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if out, err := exec.Command("dpkg-deb", "-x", one, dir).CombinedOutput(); err != nil {
		t.Fatalf("dpkg-deb: %v\n%s", err, out)
	}
	fatal(t, os.Chmod(dir, 0o755))
	const sysctl = "/proc/sys/kernel/unprivileged_userns_clone"
	demo := func() (string, int) {
		cmd := exec.Command(dir+"/usr/bin/wg-multihome-demo", "--seconds", "6")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
		out, _ := cmd.CombinedOutput()
		return string(out), cmd.ProcessState.ExitCode()
	}
	t.Cleanup(func() { _ = os.WriteFile(sysctl, []byte("1"), 0) })
	fatal(t, os.WriteFile(sysctl, []byte("0"), 0))
	text, code := demo()
	wantPart(t, "demo without namespaces", text, "denied by sysctl kernel.unprivileged_userns_clone = 0; as root: sysctl -w kernel.unprivileged_userns_clone=1")
	wantEqual(t, "its exit status", fmt.Sprint(code), "1")
	fatal(t, os.WriteFile(sysctl, []byte("1"), 0))
	text, code = demo()
	wantEqual(t, "the demo's exit status", fmt.Sprint(code), "0")
	var right, wrong [2]int
	_, table, _ := strings.Cut(text, "\nuplink  shell hook  wg-multihome\n")
	if _, err := fmt.Sscanf(table, "right %d %d\nwrong %d %d", &right[0], &right[1], &wrong[0], &wrong[1]); err != nil || right[1] == 0 || wrong[0] == 0 || wrong[1] != 0 {
		t.Errorf("the demo: %v, want some right and none wrong of wg-multihome's, and some wrong of the shell hook's\n%s", err, text)
	}
	wantPart(t, "what to type next", text, "  wg-multihome plan ")
}

// mainPID is that of watch's unit.
func mainPID(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("systemctl", "show", "-P", "MainPID", "wg-multihome-watch.service").Output()
	fatal(t, err)
	return strings.TrimSpace(string(out))
}

// pinnedSender sends a datagram each 5 ms with up2's mark, on the machine's own
// network, until stop is called.
func pinnedSender(t *testing.T) (stop func() (attempts, refused int)) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	fatal(t, err)
	fatal(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, mark))
	end, ended := make(chan struct{}), make(chan struct{})
	attempts, refused := 0, 0
	go func() {
		defer close(ended)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-end:
				return
			case <-tick.C:
			}
			attempts++
			if err := unix.Sendto(fd, []byte("pinned"), 0, &unix.SockaddrInet4{Port: 9, Addr: [4]byte{203, 0, 113, 1}}); err != nil && !errors.Is(err, unix.EINTR) {
				refused++
			}
		}
	}()
	return func() (int, int) {
		close(end)
		<-ended
		fatal(t, unix.Close(fd))
		return attempts, refused
	}
}
