package kernel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// process sees to the sockets of one process: those in the table of files that its
// threads share, and those in the tables of threads that have their own (clone(2)
// without CLONE_FILES, or unshare(2) with it). A first thread that has ended before
// the others has none any more.
//
// Threads are listed again until there is no new one: it may have a copy of a table
// whose thread had ended before that was looked at.
func (g *giver) process(ctx context.Context, pid int) error {
	if pid == 0 {
		return errors.New("it is in a process namespace that is not below this one")
	}
	var first error
	var looked []int // threads, one for each table
	known := map[int]bool{}
	for range rounds {
		tids, err := threads(pid)
		if err != nil {
			return err
		}
		before := len(known)
		for _, tid := range tids {
			if known[tid] || ctx.Err() != nil {
				continue
			}
			known[tid] = true
			if slices.ContainsFunc(looked, func(other int) bool { return sameTable(tid, other) }) {
				continue
			}
			looked = append(looked, tid)
			if err := g.table(ctx, pid, tid); first == nil && !ended(err) { // as a rule the others fail likewise
				first = err
			}
		}
		if len(known) == before {
			break
		}
	}
	return first
}

// threads returns the threads of a process, the first one in front.
func threads(pid int) ([]int, error) {
	dir, err := os.Open(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	tids := []int{pid}
	for _, name := range names {
		if tid, err := strconv.Atoi(name); err == nil && tid != pid {
			tids = append(tids, tid)
		}
	}
	return tids, nil
}

const kcmpFiles = 2 // KCMP_FILES, linux/kcmp.h

// sameTable reports whether two threads share their table of files. Where the kernel
// does not tell (kcmp(2) takes CONFIG_KCMP) that of each is looked at.
func sameTable(a, b int) bool {
	order, _, errno := unix.Syscall6(unix.SYS_KCMP, uintptr(a), uintptr(b), kcmpFiles, 0, 0, 0)
	return errno == 0 && order == 0
}

// table sees to the sockets in one thread's table of files. The thread is opened
// before its folder: that still says that it is one of the process.
func (g *giver) table(ctx context.Context, pid, tid int) error {
	pidfd, failed := openThread(pid, tid)
	if failed == nil {
		defer unix.Close(pidfd)
	} else if !errors.Is(failed, errNoThreads) {
		return failed
	}
	dir, err := os.Open(fmt.Sprintf("/proc/%d/task/%d/fd", pid, tid))
	if err != nil {
		return err
	}
	defer dir.Close()
	if failed != nil {
		return g.unreached(ctx, dir, tid, failed)
	}
	return files(ctx, dir, func(name string) error { return g.file(pidfd, dir, name) })
}

const pidfdThread = unix.O_EXCL // PIDFD_THREAD, linux/pidfd.h

var errNoThreads = errors.New("before Linux 6.9 pidfd_open(2) opens no thread but the first")

// openThread opens a thread for pidfd_getfd(2), which takes from its table. It fails
// with errNoThreads where the kernel opens first threads alone.
func openThread(pid, tid int) (int, error) {
	flags := 0
	if tid != pid {
		flags = pidfdThread
	}
	fd, err := unix.PidfdOpen(tid, flags)
	if tid != pid && errors.Is(err, unix.EINVAL) {
		return -1, errNoThreads
	}
	if err != nil {
		return -1, fmt.Errorf("pidfd_open: %w", err)
	}
	return fd, nil
}

// files calls look with the number of each open file that a folder of /proc lists. It
// returns the first error, and goes on: as a rule the others fail likewise.
func files(ctx context.Context, dir *os.File, look func(number string) error) error {
	var first error
	for ctx.Err() == nil {
		const chunk = 1024
		names, err := dir.Readdirnames(chunk)
		for _, name := range names {
			if ctx.Err() != nil {
				break
			}
			if err := look(name); first == nil {
				first = err
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	return first
}

// file sees to one open file of a thread, if it is a socket that no other file was.
// Its number may be another file's since it was listed: what it is now counts.
func (g *giver) file(pidfd int, dir *os.File, name string) error {
	inode, is := socketInode(dir, name)
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

// socketInode returns the number of a socket that /proc/PID/task/TID/fd lists.
func socketInode(dir *os.File, name string) (inode uint64, is bool) {
	text := make([]byte, len("socket:[18446744073709551615]"))
	n, err := unix.Readlinkat(int(dir.Fd()), name, text)
	if err != nil {
		return 0, false
	}
	number, is := strings.CutPrefix(string(text[:n]), "socket:[")
	number, closed := strings.CutSuffix(number, "]")
	inode, err = strconv.ParseUint(number, 10, 64)
	return inode, is && closed && err == nil
}

// unreached returns the error of sockets that stand only in a table which is not
// reached, and may have a mark; nil where there are none.
func (g *giver) unreached(ctx context.Context, dir *os.File, tid int, why error) error {
	count := 0
	err := files(ctx, dir, func(name string) error {
		if inode, is := socketInode(dir, name); is && !g.seen[inode] && !otherFamily(dir, name) {
			count++
		}
		return nil
	})
	if count > 0 {
		return fmt.Errorf("%d are in the table of files of thread %d alone: %w", count, tid, why)
	}
	return err
}

// otherFamily reports whether a socket is surely none of IPv4 or IPv6, by the name of
// its protocol: that is told without opening it.
func otherFamily(dir *os.File, name string) bool {
	protocol := make([]byte, 32) // the kernel's names have as many bytes at most, struct proto
	n, err := unix.Getxattr(dir.Name()+"/"+name, "system.sockprotoname", protocol)
	if err != nil {
		return false
	}
	is := func(family string) bool { return strings.HasPrefix(string(protocol[:n]), family) }
	return is("UNIX") || is("NETLINK") || is("PACKET")
}
