package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"wg-multihome/fwmark/socket"
)

// pointer is a pointer in union bpf_attr: 64 bits wide on every machine. What it
// points to must be pinned until the call is over.
type pointer uint64

func pointerTo[T any](pins *runtime.Pinner, first *T) pointer {
	pins.Pin(first)
	return pointer(uintptr(unsafe.Pointer(first)))
}

// bpf makes the system call. attr is the part of union bpf_attr that the command
// has; the kernel takes what is not sent for 0.
func bpf[T any](command int, attr *T) (int, error) {
	r, _, errno := unix.Syscall(unix.SYS_BPF, uintptr(command), uintptr(unsafe.Pointer(attr)), unsafe.Sizeof(*attr))
	if errno != 0 {
		return -1, errno
	}
	return int(r), nil
}

// place is what the kernel calls one of our places: a type of program, and where it
// is attached.
type place struct{ program, attach, expected uint32 }

// placeOf says so. A program for sock_ops is not told at its loading where it will
// be attached.
func placeOf(p socket.Place) place {
	switch p {
	case socket.Create:
		return place{unix.BPF_PROG_TYPE_CGROUP_SOCK, unix.BPF_CGROUP_INET_SOCK_CREATE, unix.BPF_CGROUP_INET_SOCK_CREATE}
	case socket.Connect4:
		return place{unix.BPF_PROG_TYPE_CGROUP_SOCK_ADDR, unix.BPF_CGROUP_INET4_CONNECT, unix.BPF_CGROUP_INET4_CONNECT}
	case socket.Connect6:
		return place{unix.BPF_PROG_TYPE_CGROUP_SOCK_ADDR, unix.BPF_CGROUP_INET6_CONNECT, unix.BPF_CGROUP_INET6_CONNECT}
	}
	return place{unix.BPF_PROG_TYPE_SOCK_OPS, unix.BPF_CGROUP_SOCK_OPS, 0}
}

// encode writes instructions as struct bpf_insn, whose two registers are fields of
// four bits: the first is the lower half of their byte where the machine is little
// endian, else the upper.
func encode(code []socket.Instruction) []byte {
	little := binary.NativeEndian.Uint16([]byte{1, 0}) == 1
	var b []byte
	for _, i := range code {
		registers := byte(i.Dst)<<4 | byte(i.Src)
		if little {
			registers = byte(i.Src)<<4 | byte(i.Dst)
		}
		b = append(b, i.Op, registers)
		b = binary.NativeEndian.AppendUint16(b, uint16(i.Off))
		b = binary.NativeEndian.AppendUint32(b, uint32(i.Imm))
	}
	return b
}

const instructionSize = 8

// loadAttr is the part of union bpf_attr for BPF_PROG_LOAD, up to what Linux 4.17
// knows.
type loadAttr struct {
	program, count    uint32
	code, license     pointer
	logLevel, logSize uint32
	log               pointer
	_, _              uint32 // kern_version, prog_flags
	name              [unix.BPF_OBJ_NAME_LEN]byte
	_, expected       uint32 // prog_ifindex
}

// logSize bounds what the verifier may say of a program that it refuses: ours have
// some twenty instructions.
const logSize = 64 << 10

// load loads code, and returns its file descriptor. Where the verifier refuses it,
// the error has its last words.
func load(p socket.Place, code []socket.Instruction, name string) (int, error) {
	var pins runtime.Pinner
	defer pins.Unpin()
	text, license, at := encode(code), []byte("MIT\x00"), placeOf(p)
	attr := loadAttr{
		program: at.program, expected: at.expected,
		count: uint32(len(text) / instructionSize), code: pointerTo(&pins, &text[0]), license: pointerTo(&pins, &license[0]),
	}
	copy(attr.name[:len(attr.name)-1], name)
	restore, err := holdSignals()
	if err != nil {
		return -1, err
	}
	defer restore()
	fd, err := bpf(unix.BPF_PROG_LOAD, &attr)
	if !errors.Is(err, unix.EACCES) && !errors.Is(err, unix.EINVAL) {
		return fd, err
	}
	log := make([]byte, logSize)
	attr.logLevel, attr.logSize, attr.log = 1, uint32(len(log)), pointerTo(&pins, &log[0])
	fd, err = bpf(unix.BPF_PROG_LOAD, &attr)
	if said := lastLines(unix.ByteSliceToString(log)); err != nil && said != "" {
		return -1, fmt.Errorf("%w: %s", err, said)
	}
	return fd, err
}

// holdSignals keeps signals from this thread until restore is called: the verifier
// gives up with EAGAIN where one is pending (do_check, kernel/bpf/verifier.c), and
// Go's scheduler sends SIGURG to its threads at any time. Other threads take those
// that are the process's.
func holdSignals() (restore func(), err error) {
	runtime.LockOSThread()
	var all, before unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^all.Val[i]
	}
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &all, &before); err != nil {
		runtime.UnlockOSThread()
		return nil, fmt.Errorf("hold signals: %w", err)
	}
	return func() {
		_ = unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil) // it was taken before
		runtime.UnlockOSThread()
	}, nil
}

// lastLines returns the end of what the verifier said, which is why it refuses.
func lastLines(log string) string {
	const shown = 3
	lines := strings.Split(strings.TrimSpace(log), "\n")
	return strings.Join(lines[max(0, len(lines)-shown):], "; ")
}

// attachAttr is that for BPF_PROG_ATTACH and BPF_PROG_DETACH.
type attachAttr struct{ cgroup, program, attach, flags, replace uint32 }

// attach attaches a program to a cgroup, behind those that are there. Others may
// stand beside it.
func attach(cgroup, program int, p socket.Place) error {
	_, err := bpf(unix.BPF_PROG_ATTACH, &attachAttr{
		cgroup: uint32(cgroup), program: uint32(program), attach: placeOf(p).attach, flags: unix.BPF_F_ALLOW_MULTI,
	})
	return err
}

// replace puts a program in the place of another one: no socket meets both, or
// none.
func replace(cgroup, program, old int, p socket.Place) error {
	_, err := bpf(unix.BPF_PROG_ATTACH, &attachAttr{
		cgroup: uint32(cgroup), program: uint32(program), attach: placeOf(p).attach, flags: unix.BPF_F_ALLOW_MULTI | unix.BPF_F_REPLACE, replace: uint32(old),
	})
	return err
}

func detach(cgroup, program int, p socket.Place) error {
	_, err := bpf(unix.BPF_PROG_DETACH, &attachAttr{cgroup: uint32(cgroup), program: uint32(program), attach: placeOf(p).attach})
	return err
}

// queryAttr is that for BPF_PROG_QUERY.
type queryAttr struct {
	cgroup, attach, flags, attachFlags uint32
	ids                                pointer
	count                              uint32
}

// maxAttached is how many programs a cgroup may have at one place
// (BPF_CGROUP_MAX_PROGS), and its effective ones may be more.
const maxAttached = 64

// query returns the ids of the programs that are attached to a cgroup at a place,
// in the order in which they are called; effective has those above it too. flags
// are how its own were attached.
func query(cgroup int, p socket.Place, effective bool) (ids []uint32, flags uint32, err error) {
	for room := maxAttached; ; room *= 2 {
		var pins runtime.Pinner
		ids = make([]uint32, room)
		attr := queryAttr{cgroup: uint32(cgroup), attach: placeOf(p).attach, ids: pointerTo(&pins, &ids[0]), count: uint32(room)}
		if effective {
			attr.flags = unix.BPF_F_QUERY_EFFECTIVE
		}
		_, err = bpf(unix.BPF_PROG_QUERY, &attr)
		pins.Unpin()
		switch {
		case err == nil && int(attr.count) <= room:
			return ids[:attr.count], attr.attachFlags, nil
		case errors.Is(err, unix.ENOSPC) && room < maxAttached<<8: // as deep as trees are
		case err == nil:
			return nil, 0, unix.ENOSPC
		default:
			return nil, 0, err
		}
	}
}

// open opens a program by its id.
func open(id uint32) (int, error) {
	return bpf(unix.BPF_PROG_GET_FD_BY_ID, &struct{ id, next, flags uint32 }{id: id})
}

// infoAttr is that for BPF_OBJ_GET_INFO_BY_FD.
type infoAttr struct {
	fd, size uint32
	info     pointer
}

// programInfo is the beginning of struct bpf_prog_info: what stands in front of the
// name is not asked for, and must be 0.
type programInfo struct {
	_    [64]byte
	name [unix.BPF_OBJ_NAME_LEN]byte
}

// nameOf returns the name of an open program.
func nameOf(fd int) (string, error) {
	var pins runtime.Pinner
	defer pins.Unpin()
	info := new(programInfo)
	attr := infoAttr{fd: uint32(fd), size: uint32(unsafe.Sizeof(*info)), info: pointerTo(&pins, info)}
	if _, err := bpf(unix.BPF_OBJ_GET_INFO_BY_FD, &attr); err != nil {
		return "", err
	}
	return unix.ByteSliceToString(info.name[:]), nil
}
