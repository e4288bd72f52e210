package flows

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience bounds every wait of these tests.
const patience = 15 * time.Second

// namespace is a network namespace, which lives as long as the file.
type namespace struct {
	t    testing.TB
	file *os.File
}

func newNamespace(t testing.TB) *namespace {
	t.Helper()
	n := &namespace{t: t}
	onThread(func() {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			t.Errorf("make a network namespace (as root): %v", err)
			return
		}
		file, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			t.Error(err)
			return
		}
		n.file = file
	})
	if n.file == nil {
		t.FailNow()
	}
	t.Cleanup(func() { n.file.Close() })
	return n
}

// onThread runs f on a thread of its own, which ends with it.
func onThread(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked
		f()
	}()
	<-done
}

// do runs f inside. It must not end the test.
func (n *namespace) do(f func()) {
	n.t.Helper()
	onThread(func() {
		if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
			n.t.Error(err)
			return
		}
		f()
	})
}

// command runs a command inside, and returns what it said.
func (n *namespace) command(input string, args ...string) string {
	n.t.Helper()
	var out []byte
	var err error
	n.do(func() {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Stdin = strings.NewReader(input)
		cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
		out, err = cmd.CombinedOutput()
	})
	if err != nil {
		n.t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return string(out)
}

func (n *namespace) script(lines string) { n.t.Helper(); n.command(lines, "sh", "-eu") }

func (n *namespace) nft(rules string) { n.t.Helper(); n.command(rules, "nft", "-f", "-") }

func (n *namespace) enter() (count int, err error) {
	n.t.Helper()
	n.do(func() {
		var c Client
		defer c.Close()
		count, err = c.Enter(context.Background())
	})
	return count, err
}

func (n *namespace) mustEnter() int {
	n.t.Helper()
	count, err := n.enter()
	must(n.t, err)
	return count
}

func (n *namespace) listen(network, address string) *net.TCPListener {
	n.t.Helper()
	var l net.Listener
	var err error
	n.do(func() { l, err = net.Listen(network, address) })
	must(n.t, err)
	n.t.Cleanup(func() { l.Close() })
	return l.(*net.TCPListener)
}

func (n *namespace) dial(address string) *net.TCPConn {
	n.t.Helper()
	var c net.Conn
	var err error
	n.do(func() { c, err = net.DialTimeout("tcp", address, patience) })
	must(n.t, err)
	n.t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

// dialMapped connects an IPv6 socket to an IPv4 address, as programs do that
// know IPv6 only; net takes an IPv4 socket for it.
func (n *namespace) dialMapped(address [4]byte, port int) *net.TCPConn {
	n.t.Helper()
	var c net.Conn
	var err error
	n.do(func() { c, err = connectMapped(address, port) })
	must(n.t, err)
	n.t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

func connectMapped(address [4]byte, port int) (net.Conn, error) {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "mapped")
	defer file.Close()
	to := &unix.SockaddrInet6{Port: port, Addr: [16]byte{10: 0xff, 11: 0xff, 12: address[0], 13: address[1], 14: address[2], 15: address[3]}}
	if err := unix.Connect(fd, to); err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return net.FileConn(file)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
