package kernel

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
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
func (c *Client) Give(ctx context.Context, r socket.Remark, report *Report) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	g := giver{remark: r, report: report, seen: map[uint64]bool{}, done: map[int]bool{}}
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
	remark socket.Remark
	report *Report
	seen   map[uint64]bool // sockets, by inode
	done   map[int]bool    // processes
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

// process sees to the sockets of one process.
func (g *giver) process(ctx context.Context, pid int) error {
	if pid == 0 {
		return errors.New("it is in a process namespace that is not below this one")
	}
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return fmt.Errorf("pidfd_open: %w", err)
	}
	defer unix.Close(pidfd)
	dir, err := os.Open(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return err
	}
	defer dir.Close()
	var errs []error
	for ctx.Err() == nil {
		const chunk = 1024
		names, err := dir.Readdirnames(chunk)
		for _, name := range names {
			if ctx.Err() != nil {
				break
			}
			if err := g.file(pidfd, dir, name); err != nil && len(errs) == 0 { // as a rule the others fail likewise
				errs = append(errs, err)
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	return errors.Join(errs...)
}

// file sees to one open file of a process, if it is a socket that no other file
// was. Its number may be another file's since it was listed: what it is now counts.
func (g *giver) file(pidfd int, dir *os.File, name string) error {
	inode, is := socketInode(int(dir.Fd()), name)
	number, err := strconv.Atoi(name)
	if !is || err != nil || g.seen[inode] {
		return nil
	}
	fd, err := unix.PidfdGetfd(pidfd, number, 0)
	if errors.Is(err, unix.EBADF) || errors.Is(err, unix.ESRCH) { // closed meanwhile
		return nil
	}
	if err != nil {
		return fmt.Errorf("pidfd_getfd: %w", err)
	}
	defer unix.Close(fd)
	var now unix.Stat_t
	if err := unix.Fstat(fd, &now); err != nil {
		return fmt.Errorf("ask an open file what it is: %w", err)
	}
	if now.Mode&unix.S_IFMT != unix.S_IFSOCK || g.seen[now.Ino] {
		return nil
	}
	if err := g.give(fd); err != nil {
		return err
	}
	g.seen[now.Ino] = true
	return nil
}

// socketInode returns the number of a socket that /proc/PID/fd lists.
func socketInode(dir int, name string) (inode uint64, is bool) {
	text := make([]byte, len("socket:[18446744073709551615]"))
	n, err := unix.Readlinkat(dir, name, text)
	if err != nil {
		return 0, false
	}
	number, is := strings.CutPrefix(string(text[:n]), "socket:[")
	number, closed := strings.CutSuffix(number, "]")
	inode, err = strconv.ParseUint(number, 10, 64)
	return inode, is && closed && err == nil
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
	if next == uint32(now) {
		return nil
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
