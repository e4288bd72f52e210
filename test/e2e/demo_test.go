package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"wg-multihome/test/lab"
)

// nobody has no rights that root has.
const nobody = 65534

// demoBinary builds the demo, where nobody can run it.
func demoBinary(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "wg-multihome-demo")
	fatal(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	fatal(t, os.Chmod(dir, 0o755))
	path := filepath.Join(dir, "demo")
	build := exec.Command("go", "build", "-o", path, "wg-multihome/test/demo")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return path
}

// TestDemo has the demo's counts: whoever tries it without root sees that nothing
// pinned leaves by the other uplink while this program keeps the rules, and that much
// does otherwise.
func TestDemo(t *testing.T) {
	t.Parallel()
	demo := exec.Command(demoBinary(t), "--seconds", "12", "--binary", binary)
	demo.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	var said, complaint bytes.Buffer
	demo.Stdout, demo.Stderr = &said, &complaint
	if err := demo.Run(); err != nil || complaint.Len() > 0 {
		t.Fatalf("demo: %v\n%s%s", err, said.String(), complaint.String())
	}
	text := said.String()
	for _, l := range strings.Split(text, "\n") {
		if len(l) > 80 {
			t.Errorf("longer than a terminal's line: %s", l)
		}
	}
	wantPart(t, "the table", text, "\nuplink  shell hook  wg-multihome\n")
	var shell, ours [2]int
	for i, row := range []string{"right", "wrong"} {
		_, cells, _ := strings.Cut(text, "\n"+row+" ")
		if _, err := fmt.Sscan(cells, &shell[i], &ours[i]); err != nil {
			t.Fatalf("row %s: %v\n%s", row, err, text)
		}
	}
	const many = 1000 // of some 12,000 that are sent
	if ours[1] != 0 || ours[0] < many || shell[1] < many || shell[0] < many/10 {
		t.Errorf("shell hook: %v, wg-multihome: %v, right and wrong; want more than %d right and 0 wrong of wg-multihome's\n%s", shell, ours, many, text)
	}
	t.Logf("%s", text)

	// README shows what happened there, with other counts.
	const event = `(?m)^ +\d+  (\S.*?)  `
	rows := regexp.MustCompile(event)
	shown := docText(t, "   s  event ")
	wantEqual(t, "README's events", fmt.Sprint(column(rows, shown)), fmt.Sprint(column(rows, text)))
	wantPart(t, "README's table", shown, "\nuplink  shell hook  wg-multihome\n")
}

// column is what the parentheses of a pattern match, each time.
func column(pattern *regexp.Regexp, text string) (cells []string) {
	for _, match := range pattern.FindAllStringSubmatch(text, -1) {
		cells = append(cells, match[1])
	}
	return cells
}

// TestDemoDenied says by what user namespaces are denied.
func TestDemoDenied(t *testing.T) {
	t.Parallel()
	demo := demoBinary(t)
	for _, name := range []string{"max_user_namespaces", "max_net_namespaces", "max_mnt_namespaces"} {
		// In a user namespace the limits are its own.
		cmd := exec.Command("unshare", "--user", "--map-root-user", "sh", "-euc", "echo 0 >/proc/sys/user/"+name+`; exec "$0" --binary "$1"`, demo, binary)
		out, err := cmd.CombinedOutput()
		if err == nil || cmd.ProcessState.ExitCode() != 1 {
			t.Errorf("%s: %v, want exit status 1", name, err)
		}
		wantPart(t, name, string(out), "denied by sysctl user."+name+" = 0; as root: sysctl -w user."+name+"=")
	}
}

// TestDemoShellHook compares the demo's stand-in of the shell hook with the script
// that it stands for: after each event both hosts have the same rules and routes.
func TestDemoShellHook(t *testing.T) {
	demo := demoBinary(t)
	script, err := filepath.Abs("../bench/hook.sh")
	fatal(t, err)
	a, b := newLab(t), lab.New(t, binary)
	for _, l := range []*lab.Lab{a, b} {
		l.Static()
		l.Interfaces(pinned)
		l.Script("mkdir -p /etc/dhcp/multihomed.d")
	}
	both := func(variables ...string) {
		t.Helper()
		// dhclient does not look at how its hooks end.
		a.Try(append(variables, "interface=up2", "new_routers=198.51.100.1"), "sh", script)
		wantCode(t, b.Try(append(variables, "interface=up2", "new_routers=198.51.100.1", "WG_MULTIHOME_DEMO=shell hook"), demo), 0)
		wantEqual(t, fmt.Sprintf("the stand-in, after %v", variables), b.State(), a.State())
	}
	both("reason=BOUND", "new_ip_address=198.51.100.10")
	wantPart(t, "rules", a.Rules("-4"), "from all fwmark 0x2005 unreachable")
	both("reason=RENEW", "new_ip_address=198.51.100.10", "old_ip_address=198.51.100.10")
	both("reason=REBIND", "new_ip_address=198.51.100.20", "old_ip_address=198.51.100.10")
	both("reason=EXPIRE", "old_ip_address=198.51.100.20")
	both("reason=PREINIT")
}
