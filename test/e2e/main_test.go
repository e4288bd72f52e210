// Package e2e drives the binary on real kernels, with real DHCP, real
// ifupdown and real packets, in namespaces.
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

var binary string

func TestMain(m *testing.M) {
	if lab.Main() {
		return
	}
	lab.DefaultSignals()
	os.Exit(buildAndRun(m))
}

// buildAndRun builds the program once for all tests. WG_MULTIHOME_BINARY names
// one that is there already.
func buildAndRun(m *testing.M) int {
	if given := os.Getenv("WG_MULTIHOME_BINARY"); given != "" {
		path, err := filepath.Abs(given)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		binary = path
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "wg-multihome-test")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "wg-multihome")
	build := exec.Command("go", "build", "-o", binary, "wg-multihome/cmd/wg-multihome")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	if err := os.Chmod(dir, 0o755); err != nil { // a test runs it as nobody
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

func newLab(t *testing.T) *lab.Lab {
	t.Helper()
	t.Parallel()
	return lab.New(t, binary)
}

func wantEqual(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s:\n%s\nwant:\n%s", what, got, want)
	}
}

func wantPart(t *testing.T, what, text, part string) {
	t.Helper()
	if !strings.Contains(text, part) {
		t.Errorf("%s lacks %q:\n%s", what, part, text)
	}
}

func wantNone(t *testing.T, what, text, part string) {
	t.Helper()
	if strings.Contains(text, part) {
		t.Errorf("%s has %q:\n%s", what, part, text)
	}
}

func wantCode(t *testing.T, r lab.Result, code int) {
	t.Helper()
	if r.Code != code {
		t.Errorf("exit status %d, want %d\n%s%s", r.Code, code, r.Stdout, r.Stderr)
	}
}

// pinned is a configuration that pins mark 0x2005 to up2.
const pinned = `
auto up2
iface up2 inet dhcp
	metric 2
	multihomed-fwmark 0x2005
`

// noDrift fails the test if a second run would do anything.
func noDrift(t *testing.T, l *lab.Lab) {
	t.Helper()
	r := l.MH("plan", "--exit-code")
	if r.Code != 0 || r.Stdout != "" {
		t.Errorf("a second run would do something: exit status %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
}

// noSpoof fails the test if a router dropped a packet for its source.
func noSpoof(t *testing.T, l *lab.Lab) {
	t.Helper()
	if n := l.Spoofed(); n != 0 {
		t.Errorf("routers dropped %d packets with a source of another ISP", n)
	}
}
