package kernel

import (
	"bufio"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// process is one that has sockets, and does with them what it is told.
type process struct {
	t       testing.TB
	pid     int
	in      io.WriteCloser
	answers *bufio.Reader
}

// serving is set in the environment of such a process: it is this test's binary.
const serving = "WG_MULTIHOME_TEST_SOCKETS"

func TestMain(m *testing.M) {
	if os.Getenv(serving) != "" {
		serve(os.Stdin, os.Stdout)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// start starts one, from the beginning in a cgroup, if one is given by its
// directory.
func start(t testing.TB, cgroup string, attr *syscall.SysProcAttr) *process {
	t.Helper()
	if cgroup != "" {
		dir, err := os.Open(cgroup)
		must(t, err)
		defer dir.Close()
		attr.UseCgroupFD, attr.CgroupFD = true, int(dir.Fd())
	}
	attr.Pdeathsig = unix.SIGKILL
	cmd := exec.Command("/proc/self/exe")
	cmd.Env, cmd.SysProcAttr, cmd.Stderr = append(os.Environ(), serving+"=1"), attr, os.Stderr
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	p := &process{t: t, pid: cmd.Process.Pid, in: in, answers: bufio.NewReader(out)}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return p
}

// try has the process do something, and returns what came of it.
func (p *process) try(words ...any) (string, error) {
	p.t.Helper()
	if _, err := fmt.Fprintln(p.in, words...); err != nil {
		p.t.Fatal(err)
	}
	line, err := p.answers.ReadString('\n')
	if err != nil {
		p.t.Fatalf("process %d at %q: %v", p.pid, fmt.Sprintln(words...), err)
	}
	kind, text, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
	if kind == "error" {
		return "", fmt.Errorf("%s: %s", strings.TrimSpace(fmt.Sprintln(words...)), text)
	}
	return text, nil
}

// do has it do what must succeed.
func (p *process) do(words ...any) string {
	p.t.Helper()
	text, err := p.try(words...)
	if err != nil {
		p.t.Fatal(err)
	}
	return text
}

// mark returns the mark of a socket.
func (p *process) mark(name string) uint32 {
	p.t.Helper()
	n, err := strconv.ParseUint(p.do("mark", name), 0, 32)
	must(p.t, err)
	return uint32(n)
}

// local returns the address of a socket.
func (p *process) local(name string) netip.AddrPort {
	p.t.Helper()
	a, err := netip.ParseAddrPort(p.do("local", name))
	must(p.t, err)
	return a
}
