package kernel

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"wg-multihome/fwmark/socket"
)

// Report tells what became of sockets.
type Report struct {
	Seen    int     // sockets of IPv4 and IPv6
	Changed int     // those that have another mark now
	Refused []error // of processes whose sockets could not be reached, one each
}

// rounds bounds how often the processes of a cgroup are listed: those that came
// meanwhile may have got sockets of a process before that had been seen to.
const rounds = 3

// limit bounds the whole of Give: a DHCP client waits for its hook.
const limit = 5 * time.Second

// Give gives the sockets of a cgroup's processes the marks that the remark tells.
// It takes some 5 µs for each, and 5 s at most: that it came to no end is an error,
// and what was done stays.
//
// It is called when no socket is made any more that would be to change: programs
// give new ones their mark, or none does. A process goes for all its threads, and
// its cgroup for that of its sockets. Not found are sockets that stand in no table
// of files: in flight between processes (SCM_RIGHTS), or held by io_uring alone.
// Before Linux 6.9 those are not reached that stand in the table of a thread alone
// (see process): it is said.
func (c *Client) Give(ctx context.Context, r socket.Remark, report *Report) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	g := giver{ctx: ctx, remark: r, report: report, conntrack: c.Conntrack, seen: map[uint64]bool{}, done: map[int]bool{}}
	defer g.close()
	except := map[string]bool{}
	for _, cgroup := range r.Except {
		except[cgroup] = true
	}
	for range rounds {
		before := len(g.done)
		err := c.walk(r.Cgroup, func(cgroup string) bool { return except[cgroup] }, func(cgroup string, dir *os.File) error {
			return g.cgroup(ctx, cgroup, dir)
		})
		if err != nil {
			return err
		}
		if len(g.done) == before {
			break
		}
	}
	return nil
}

type giver struct {
	ctx    context.Context
	remark socket.Remark
	report *Report

	conntrack Conntrack
	listening map[uint16]bool // ports, read at their first use

	seen map[uint64]bool // sockets, by inode
	done map[int]bool    // processes
	diag *diag           // opened at its first use
}

// cgroup sees to the processes of one cgroup.
func (g *giver) cgroup(ctx context.Context, cgroup string, dir *os.File) error {
	pids, err := processes(dir)
	if gone(err) {
		return nil
	}
	if errors.Is(err, unix.EOPNOTSUPP) { // its processes are listed further up, where their other threads are
		if cgroup == g.remark.Cgroup && len(g.done) == 0 {
			g.report.Refused = append(g.report.Refused, fmt.Errorf("sockets of cgroup /%s keep their mark: it is one of threads, and its processes are not known", cgroup))
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("list processes of cgroup /%s: %w", cgroup, err)
	}
	for _, pid := range pids {
		if g.done[pid] {
			continue
		}
		g.done[pid] = true
		err := g.process(ctx, pid)
		if ctx.Err() != nil {
			return fmt.Errorf("give sockets of cgroup /%s their mark: ended after %d sockets: %w", cgroup, g.report.Seen, context.Cause(ctx))
		}
		if err != nil && !ended(err) {
			g.report.Refused = append(g.report.Refused, fmt.Errorf("sockets of process %s keep their mark: %w", describe(pid), err))
		}
	}
	return nil
}

// processes returns the process ids of a cgroup. One of a process that this one
// cannot see, in another namespace, is 0.
func processes(dir *os.File) ([]int, error) {
	fd, err := unix.Openat(int(dir.Fd()), "cgroup.procs", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err // ENOENT in the root of a hierarchy is none
	}
	f := os.NewFile(uintptr(fd), "cgroup.procs")
	defer f.Close()
	var pids []int
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		pid, err := strconv.Atoi(lines.Text())
		if err != nil {
			return nil, err
		}
		pids = append(pids, pid)
	}
	return pids, lines.Err()
}

// ended reports whether a process is gone, and its sockets with it.
func ended(err error) bool { return errors.Is(err, unix.ESRCH) || errors.Is(err, fs.ErrNotExist) }

func describe(pid int) string {
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return strconv.Itoa(pid)
	}
	return fmt.Sprintf("%d (%s)", pid, strings.TrimSpace(string(name)))
}

// give sets the mark of a socket of IPv4 or IPv6, if it is to have another one.
func (g *giver) give(fd int) error {
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return fmt.Errorf("ask a socket for its domain: %w", err)
	}
	if domain != unix.AF_INET && domain != unix.AF_INET6 {
		return nil
	}
	g.report.Seen++
	now, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK)
	if err != nil {
		return fmt.Errorf("read the mark of a socket: %w", err)
	}
	use, err := useOf(fd)
	if err != nil {
		return err
	}
	next := g.remark.Next(uint32(now), use)
	if use == socket.Connected && g.remark.AsksConnection(next) {
		connection, err := g.connection(fd)
		if err != nil {
			return err
		}
		next = g.remark.ByConnection(next, connection)
	}
	if next == uint32(now) {
		return nil
	}
	if use == socket.Connected {
		accepted, err := g.accepted(fd, uint32(now))
		if err != nil {
			return err
		}
		if accepted {
			next = g.remark.Next(uint32(now), socket.Accepted)
		}
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, int(int32(next))); err != nil {
		return fmt.Errorf("set the mark of a socket: %w", err)
	}
	g.report.Changed++
	return nil
}

// States of a TCP socket, net/tcp_states.h.
const (
	tcpClose  = 7
	tcpListen = 10
)

// useOf tells what a socket is used for. getpeername(2) does not know a TCP socket
// that is about to connect, so TCP's own state is asked where there is one.
func useOf(fd int) (socket.Use, error) {
	listens, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if err != nil {
		return 0, fmt.Errorf("ask a socket whether it listens: %w", err)
	}
	if listens != 0 {
		return socket.Listening, nil
	}
	if info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
		switch info.State {
		case tcpClose:
			return socket.Unconnected, nil
		case tcpListen:
			return socket.Listening, nil
		}
		return socket.Connected, nil
	}
	_, err = unix.Getpeername(fd)
	if errors.Is(err, unix.ENOTCONN) {
		return socket.Unconnected, nil
	}
	return socket.Connected, nil
}
