package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Foreign attaches a program of others to a cgroup of the host, with flags of
// BPF_PROG_ATTACH: it gives the sockets that are made there a mark, if it is not 0. It
// goes with the cgroup, or by detach.
func (c Cgroups) Foreign(path string, flags, mark uint32) (detach func()) {
	c.t.Helper()
	if runtime.GOARCH != "amd64" && runtime.GOARCH != "386" && runtime.GOARCH != "arm64" && runtime.GOARCH != "arm" {
		c.t.Fatalf("a program is not written for %s", runtime.GOARCH)
	}
	const (
		setResult = 0x1_0000_00b7 // r0 = 1
		setMark   = 0x02b7        // r2 = mark
		giveMark  = 0x0010_2163   // *(u32 *)(r1 + 16) = w2: bpf_sock.mark
		exit      = 0x95
	)
	var code []byte
	words := []uint64{setResult, exit}
	if mark != 0 {
		words = []uint64{setMark | uint64(mark)<<32, giveMark, setResult, exit}
	}
	for _, word := range words {
		code = binary.NativeEndian.AppendUint64(code, word)
	}
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
		program: unix.BPF_PROG_TYPE_CGROUP_SOCK, count: uint32(len(words)), expected: unix.BPF_CGROUP_INET_SOCK_CREATE,
		code: uint64(uintptr(unsafe.Pointer(&code[0]))), license: uint64(uintptr(unsafe.Pointer(&license[0]))),
	}
	copy(load.name[:], "others")
	program, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_LOAD, uintptr(unsafe.Pointer(&load)), unsafe.Sizeof(load))
	if errno != 0 {
		c.t.Fatalf("load a program: %v", errno)
	}
	c.t.Cleanup(func() { _ = unix.Close(int(program)) })
	call := func(what string, command uintptr, flags uint32) {
		c.t.Helper()
		dir, err := os.Open(c.dir + "/" + path)
		fatal(c.t, err)
		defer dir.Close()
		attr := struct{ cgroup, program, attach, flags uint32 }{uint32(dir.Fd()), uint32(program), unix.BPF_CGROUP_INET_SOCK_CREATE, flags}
		if _, _, errno := unix.Syscall(unix.SYS_BPF, command, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr)); errno != 0 {
			c.t.Fatalf("%s a program: %v", what, errno)
		}
	}
	call("attach", unix.BPF_PROG_ATTACH, flags)
	return func() { call("detach", unix.BPF_PROG_DETACH, 0) }
}

// MHWithoutBPF runs the program where bpf(2) fails, or only these of its commands.
func (l *Lab) MHWithoutBPF(errno unix.Errno, commands []uint32, args ...string) Result {
	l.t.Helper()
	list := make([]string, len(commands))
	for i, c := range commands {
		list[i] = strconv.FormatUint(uint64(c), 10)
	}
	role := []string{self(l.t), strconv.Itoa(int(errno)), strings.Join(list, ","), l.Binary}
	return l.Try([]string{roleVariable + "=without-bpf"}, append(role, args...)...)
}

// MHKilledByBPF runs the program where bpf(2) ends it.
func (l *Lab) MHKilledByBPF(args ...string) Result {
	l.t.Helper()
	return l.MHWithoutBPF(0, nil, args...)
}

// withoutBPF is the role: ERRNO CALLS COMMAND [ARGUMENT...]. It becomes the command,
// with a filter by which bpf(2) fails, if it is one of these calls or there are none;
// ERRNO 0: ends it.
func withoutBPF(args []string) error {
	if len(args) < 3 {
		return errors.New("usage: ERRNO CALLS COMMAND [ARGUMENT...]")
	}
	errno, err := strconv.ParseUint(args[0], 10, 16)
	if err != nil {
		return err
	}
	action := unix.SECCOMP_RET_ERRNO | uint32(errno)
	if errno == 0 {
		action = unix.SECCOMP_RET_KILL_PROCESS
	}
	code, err := filterOf(args[1], action)
	if err != nil {
		return err
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
	return fmt.Errorf("execute %s: %w", args[2], syscall.Exec(args[2], args[2:], os.Environ()))
}

// filterOf returns a filter for calls of bpf(2), a comma between them; none: for all.
func filterOf(calls string, action uint32) ([]unix.SockFilter, error) {
	const number, firstArgument = 0, 16 // in struct seccomp_data; of the argument the lower half, on little-endian machines
	load := func(at uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at}
	}
	end := func(action uint32) unix.SockFilter {
		return unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: action}
	}
	over := func(k uint32) unix.SockFilter { // the next one, unless it is k
		return unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: k, Jf: 1}
	}
	unless := over(unix.SYS_BPF)
	unless.Jt, unless.Jf = 1, 0
	code := []unix.SockFilter{load(number), unless, end(unix.SECCOMP_RET_ALLOW)}
	if calls == "" {
		return append(code, end(action)), nil
	}
	code = append(code, load(firstArgument))
	for _, text := range strings.Split(calls, ",") {
		call, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return nil, err
		}
		code = append(code, over(uint32(call)), end(action))
	}
	return append(code, end(unix.SECCOMP_RET_ALLOW)), nil
}
