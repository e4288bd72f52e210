package socket

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Register is one of the virtual machine's, R0 to R10.
type Register uint8

// What registers are for, by the calling convention of BPF: a program begins with
// its context in Context, and leaves its answer in Result. A call takes up to five
// arguments, the first in Context's register; it spoils those, and puts its answer
// into Result.
const (
	Result  Register = 0
	Context Register = 1
	Arg2    Register = 2
	Arg3    Register = 3
	Arg4    Register = 4
	Arg5    Register = 5
	Frame   Register = 10 // the end of the program's 512 bytes of stack, read-only
)

// Instruction is struct bpf_insn of linux/bpf.h.
type Instruction struct {
	Op       uint8
	Dst, Src Register
	Off      int16
	Imm      int32
}

// helper is a function of the kernel that programs may call, by its number in
// linux/bpf.h.
type helper int32

// bpf_setsockopt(context, level, option, value, length). The socket must be
// locked, which it is in all of our programs that call it.
const bpfSetsockopt helper = 49

// toOut is the offset of a jump that is still to be told where out is.
const toOut = -1

// The instructions that our programs are made of. Those of 32 bits leave the upper
// half of their register 0.

func load32(dst, base Register, off int16) Instruction {
	return Instruction{Op: unix.BPF_LDX | unix.BPF_MEM | unix.BPF_W, Dst: dst, Src: base, Off: off}
}

func load64(dst, base Register, off int16) Instruction {
	return Instruction{Op: unix.BPF_LDX | unix.BPF_MEM | unix.BPF_DW, Dst: dst, Src: base, Off: off}
}

func store32(base Register, off int16, src Register) Instruction {
	return Instruction{Op: unix.BPF_STX | unix.BPF_MEM | unix.BPF_W, Dst: base, Src: src, Off: off}
}

func move64(dst, src Register) Instruction {
	return Instruction{Op: unix.BPF_ALU64 | unix.BPF_MOV | unix.BPF_X, Dst: dst, Src: src}
}

func set64(dst Register, value int32) Instruction {
	return Instruction{Op: unix.BPF_ALU64 | unix.BPF_MOV | unix.BPF_K, Dst: dst, Imm: value}
}

func add64(dst Register, value int32) Instruction {
	return Instruction{Op: unix.BPF_ALU64 | unix.BPF_ADD | unix.BPF_K, Dst: dst, Imm: value}
}

func move32(dst, src Register) Instruction {
	return Instruction{Op: unix.BPF_ALU | unix.BPF_MOV | unix.BPF_X, Dst: dst, Src: src}
}

func and32(dst Register, bits uint32) Instruction {
	return Instruction{Op: unix.BPF_ALU | unix.BPF_AND | unix.BPF_K, Dst: dst, Imm: int32(bits)}
}

func or32(dst Register, bits uint32) Instruction {
	return Instruction{Op: unix.BPF_ALU | unix.BPF_OR | unix.BPF_K, Dst: dst, Imm: int32(bits)}
}

func outIfZero64(r Register) Instruction {
	return Instruction{Op: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Dst: r, Off: toOut}
}

func outUnless32(r Register, value uint32) Instruction {
	return Instruction{Op: unix.BPF_JMP32 | unix.BPF_JNE | unix.BPF_K, Dst: r, Off: toOut, Imm: int32(value)}
}

func call(h helper) Instruction {
	return Instruction{Op: unix.BPF_JMP | unix.BPF_CALL, Imm: int32(h)}
}

// withOut ends a program: it answers 1, "go on", whatever came before.
func withOut(code []Instruction) []Instruction {
	out := len(code)
	for i := range code {
		if code[i].Off == toOut && code[i].jumps() {
			code[i].Off = int16(out - i - 1)
		}
	}
	return append(code, set64(Result, 1), Instruction{Op: unix.BPF_JMP | unix.BPF_EXIT})
}

func (i Instruction) jumps() bool {
	switch i.Op {
	case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_JMP32 | unix.BPF_JNE | unix.BPF_K:
		return true
	}
	return false
}

// text returns an instruction in the words of the kernel's verifier and of
// bpftool: r is a register of 64 bits, w its lower half. at is its place in the
// program, by which a jump says where it goes.
func (i Instruction) text(at int) string {
	switch i.Op {
	case unix.BPF_LDX | unix.BPF_MEM | unix.BPF_W:
		return fmt.Sprintf("w%d = *(u32 *)(r%d %+d)", i.Dst, i.Src, i.Off)
	case unix.BPF_LDX | unix.BPF_MEM | unix.BPF_DW:
		return fmt.Sprintf("r%d = *(u64 *)(r%d %+d)", i.Dst, i.Src, i.Off)
	case unix.BPF_STX | unix.BPF_MEM | unix.BPF_W:
		return fmt.Sprintf("*(u32 *)(r%d %+d) = w%d", i.Dst, i.Off, i.Src)
	case unix.BPF_ALU64 | unix.BPF_MOV | unix.BPF_X:
		return fmt.Sprintf("r%d = r%d", i.Dst, i.Src)
	case unix.BPF_ALU64 | unix.BPF_MOV | unix.BPF_K:
		return fmt.Sprintf("r%d = %d", i.Dst, i.Imm)
	case unix.BPF_ALU64 | unix.BPF_ADD | unix.BPF_K:
		return fmt.Sprintf("r%d += %d", i.Dst, i.Imm)
	case unix.BPF_ALU | unix.BPF_MOV | unix.BPF_X:
		return fmt.Sprintf("w%d = w%d", i.Dst, i.Src)
	case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
		return fmt.Sprintf("w%d &= %#x", i.Dst, uint32(i.Imm))
	case unix.BPF_ALU | unix.BPF_OR | unix.BPF_K:
		return fmt.Sprintf("w%d |= %#x", i.Dst, uint32(i.Imm))
	case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
		return fmt.Sprintf("if r%d == %d goto %d", i.Dst, i.Imm, at+1+int(i.Off))
	case unix.BPF_JMP32 | unix.BPF_JNE | unix.BPF_K:
		return fmt.Sprintf("if w%d != %#x goto %d", i.Dst, uint32(i.Imm), at+1+int(i.Off))
	case unix.BPF_JMP | unix.BPF_CALL:
		if helper(i.Imm) == bpfSetsockopt {
			return "call bpf_setsockopt"
		}
		return fmt.Sprintf("call %d", i.Imm)
	case unix.BPF_JMP | unix.BPF_EXIT:
		return "exit"
	}
	return fmt.Sprintf("unknown %#v", i)
}
