package lab

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Namespace is a network namespace, and a mount namespace where it was made
// with one. It lives as long as its holder, a process that ends with the test.
type Namespace struct {
	t      testing.TB
	name   string
	pid    int
	mounts bool
}

func newNamespace(t testing.TB, name string, mounts bool, setup string) *Namespace {
	t.Helper()
	args := []string{"--net", "--uts"}
	if mounts {
		args = append(args, "--mount")
	}
	cmd := exec.Command("unshare", append(args, "sh", "-euc", setup+"\necho ready; exec cat")...)
	// The holder ends when this pipe does, however the test process ends.
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	stdin, stdout := talkTo(t, cmd)
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Wait()
	})
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("namespace %s: %v: %s", name, err, complaint.String())
	}
	return &Namespace{t: t, name: name, pid: cmd.Process.Pid, mounts: mounts}
}

// talkTo starts a command that is talked to by pipes.
func talkTo(t testing.TB, cmd *exec.Cmd) (stdin io.WriteCloser, stdout io.Reader) {
	t.Helper()
	stdin, err := cmd.StdinPipe()
	fatal(t, err)
	stdout, err = cmd.StdoutPipe()
	fatal(t, err)
	fatal(t, cmd.Start())
	t.Cleanup(func() { _ = stdin.Close() }) // keeps it reachable: the garbage collector would close it, and end the command
	return stdin, stdout
}

func fatal(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Result is how a command ended.
type Result struct {
	Stdout, Stderr string
	Code           int
}

// Command prepares a command in the namespace; its environment is a PATH.
func (n *Namespace) Command(ctx context.Context, env []string, args ...string) *exec.Cmd {
	enter := []string{"--target", strconv.Itoa(n.pid), "--net", "--uts"}
	if n.mounts {
		enter = append(enter, "--mount")
	}
	cmd := exec.CommandContext(ctx, "nsenter", append(append(enter, "--"), args...)...)
	cmd.Env = append([]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}, env...)
	cmd.WaitDelay = time.Second
	return cmd
}

// Outside prepares a command that shares the network alone with the namespace:
// it sees the machine's own /run, and systemd with it. It has this process's
// environment.
func (n *Namespace) Outside(args ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{"--target", strconv.Itoa(n.pid), "--net", "--"}, args...)...)
}

// Network is the namespace's network as a file, for a unit of systemd's.
func (n *Namespace) Network() string { return fmt.Sprintf("/proc/%d/ns/net", n.pid) }

// Try runs a command to its end. More than Patience ends the test.
func (n *Namespace) Try(env []string, args ...string) Result {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*Patience)
	defer cancel()
	cmd := n.Command(ctx, env, args...)
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	err := cmd.Run()
	var exit *exec.ExitError
	if ctx.Err() != nil || err != nil && !errors.As(err, &exit) && !errors.Is(err, exec.ErrWaitDelay) {
		n.t.Fatalf("%s: %v: %v\n%s%s", n.name, args, err, out.String(), complaint.String())
	}
	return Result{out.String(), complaint.String(), cmd.ProcessState.ExitCode()}
}

// Run runs a command that must succeed, and returns what it said.
func (n *Namespace) Run(args ...string) string {
	n.t.Helper()
	r := n.Try(nil, args...)
	if r.Code != 0 {
		n.t.Fatalf("%s: %v: exit status %d\n%s%s", n.name, args, r.Code, r.Stdout, r.Stderr)
	}
	return r.Stdout
}

// Script runs lines of shell that must all succeed.
func (n *Namespace) Script(lines string) string {
	n.t.Helper()
	return n.Run("sh", "-euc", lines)
}

// IP runs lines of ip(8)'s batch mode, which must all succeed.
func (n *Namespace) IP(lines string) {
	n.t.Helper()
	n.Run("sh", "-c", `printf '%s\n' "$0" | ip -batch -`, lines)
}

// Start starts a command that goes on until the test ends; stop ends it
// earlier. What it says is shown if the test fails.
func (n *Namespace) Start(env []string, args ...string) (stop func()) {
	n.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := n.Command(ctx, env, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	fatal(n.t, cmd.Start())
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cancel()
			_ = cmd.Wait()
		}
	}
	n.t.Cleanup(func() {
		stop()
		if n.t.Failed() {
			n.t.Logf("%s: %v:\n%s", n.name, args, out.String())
		}
	})
	return stop
}

// Link joins two namespaces by a pair of veth devices; they are not up.
func (n *Namespace) Link(name string, to *Namespace, peer string) {
	n.t.Helper()
	n.Run("ip", "link", "add", name, "type", "veth", "peer", "name", peer, "netns", strconv.Itoa(to.pid))
}

// Path is a file of the namespace as seen from outside.
func (n *Namespace) Path(path string) string {
	return filepath.Join("/proc", strconv.Itoa(n.pid), "root", path)
}

// Write writes a file in the namespace, with its folders.
func (n *Namespace) Write(path, text string, mode os.FileMode) {
	n.t.Helper()
	fatal(n.t, os.MkdirAll(filepath.Dir(n.Path(path)), 0o755))
	fatal(n.t, os.WriteFile(n.Path(path), []byte(text), mode))
	fatal(n.t, os.Chmod(n.Path(path), mode))
}

// Read reads a file in the namespace; "" where there is none.
func (n *Namespace) Read(path string) string {
	n.t.Helper()
	text, err := os.ReadFile(n.Path(path))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		n.t.Fatal(err)
	}
	return string(text)
}

// Until waits for a condition, and fails the test when it does not come.
func Until(t testing.TB, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(Patience)
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited %s in vain: %s", Patience, what)
		}
	}
}

// Contains is a condition for Until.
func Contains(get func() string, part string) func() bool {
	return func() bool { return strings.Contains(get(), part) }
}
