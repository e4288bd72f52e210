package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Exclusive attaches a program of others to a cgroup of the host, which allows none
// beside it: it has everybody make sockets. It goes with the cgroup.
func (c Cgroups) Exclusive(path string) {
	c.t.Helper()
	code := binary.NativeEndian.AppendUint64(nil, 0x1_0000_00b7) // r0 = 1
	if runtime.GOARCH != "amd64" && runtime.GOARCH != "386" && runtime.GOARCH != "arm64" && runtime.GOARCH != "arm" {
		c.t.Fatalf("a program is not written for %s", runtime.GOARCH)
	}
	code = binary.NativeEndian.AppendUint64(code, 0x95) // exit
	license := []byte("MIT\x00")
	var pins runtime.Pinner
	defer pins.Unpin()
	pins.Pin(&code[0])
	pins.Pin(&license[0])
	load := struct {
		program, count uint32
		code, license  uint64
		_, _           uint32
		_              uint64
		_, _           uint32
		name           [unix.BPF_OBJ_NAME_LEN]byte
		_, expected    uint32
	}{
		program: unix.BPF_PROG_TYPE_CGROUP_SOCK, count: 2, expected: unix.BPF_CGROUP_INET_SOCK_CREATE,
		code: uint64(uintptr(unsafe.Pointer(&code[0]))), license: uint64(uintptr(unsafe.Pointer(&license[0]))),
	}
	copy(load.name[:], "others")
	fd, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_LOAD, uintptr(unsafe.Pointer(&load)), unsafe.Sizeof(load))
	if errno != 0 {
		c.t.Fatalf("load a program: %v", errno)
	}
	defer unix.Close(int(fd))
	dir, err := os.Open(c.dir + "/" + path)
	fatal(c.t, err)
	defer dir.Close()
	attach := struct{ cgroup, program, attach, flags uint32 }{uint32(dir.Fd()), uint32(fd), unix.BPF_CGROUP_INET_SOCK_CREATE, 0}
	if _, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_ATTACH, uintptr(unsafe.Pointer(&attach)), unsafe.Sizeof(attach)); errno != 0 {
		c.t.Fatalf("attach a program: %v", errno)
	}
}

// MHWithoutBPF runs the program where bpf(2) fails.
func (l *Lab) MHWithoutBPF(errno unix.Errno, args ...string) Result {
	l.t.Helper()
	return l.Try([]string{roleVariable + "=without-bpf"}, append([]string{self(l.t), strconv.Itoa(int(errno)), l.Binary}, args...)...)
}

// MHKilledByBPF runs the program where bpf(2) ends it.
func (l *Lab) MHKilledByBPF(args ...string) Result {
	l.t.Helper()
	return l.MHWithoutBPF(0, args...)
}

// withoutBPF is the role: ERRNO COMMAND [ARGUMENT...]. It becomes the command, with
// a filter by which bpf(2) fails; ERRNO 0: ends it.
func withoutBPF(args []string) error {
	if len(args) < 2 {
		return errors.New("usage: ERRNO COMMAND [ARGUMENT...]")
	}
	errno, err := strconv.ParseUint(args[0], 10, 16)
	if err != nil {
		return err
	}
	action := unix.SECCOMP_RET_ERRNO | uint32(errno)
	if errno == 0 {
		action = unix.SECCOMP_RET_KILL_PROCESS
	}
	code := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // seccomp_data.nr
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_BPF, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: action},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	var pins runtime.Pinner
	defer pins.Unpin()
	pins.Pin(&code[0])
	filter := unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&filter)), 0, 0); err != nil {
		return err
	}
	if err := os.Unsetenv(roleVariable); err != nil {
		return err
	}
	return fmt.Errorf("execute %s: %w", args[1], syscall.Exec(args[1], args[1:], os.Environ()))
}
