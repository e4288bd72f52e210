package socket

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"wg-multihome/fwmark"
)

// Place is where on a cgroup a program is attached.
type Place uint8

// The places, in the order in which programs are attached. They are detached in
// reverse: killed midway, no socket gets a mark that would keep it when it
// listens.
const (
	// Listen is called when a TCP socket has begun to listen (sock_ops), and for
	// much else.
	Listen Place = iota
	// Connect6 is called before a socket of IPv6 connects.
	Connect6
	// Connect4 is called before a socket of IPv4 connects.
	Connect4
	// Create is called when a socket of IPv4 or IPv6 has been made.
	Create
)

// Places are all of them, in their order.
var Places = [...]Place{Listen, Connect6, Connect4, Create}

// String returns the place's name in bpftool-cgroup(8).
func (p Place) String() string {
	return [...]string{"sock_ops", "connect6", "connect4", "sock_create"}[p]
}

// Program is one that gives sockets a mark, or takes it off them.
type Program struct {
	Place Place
	Mark  fwmark.Mark
	Code  []Instruction
}

// ProgramFor returns the program of a mark for a place.
//
// There is none at bind(2): a server is told by listen(2), and clients that choose
// their port would lose the mark. There is none at sendmsg(2): a mark that is set
// there counts from the second datagram on, and each unconnected send of the
// cgroup would lock its socket.
func ProgramFor(place Place, m fwmark.Mark) Program {
	var code []Instruction
	switch place {
	case Listen:
		code = listen(m)
	case Connect6, Connect4:
		code = connect(m)
	case Create:
		code = create(m)
	}
	return Program{Place: place, Mark: m, Code: withOut(code)}
}

// Nothing is a program that leaves everything as it is: whether the kernel takes it
// tells whether it takes any.
func Nothing() []Instruction { return withOut(nil) }

// Offsets of what is read and written, in bytes: uapi of linux/bpf.h, the same on
// all machines.
const (
	sockMark      = 16  // struct bpf_sock: mark
	sockAddrSock  = 64  // struct bpf_sock_addr: sk, a pointer to struct bpf_sock
	sockOpsOp     = 0   // struct bpf_sock_ops: op, what it is called for
	sockOpsSock   = 184 // struct bpf_sock_ops: sk, NULL where there is no full socket
	stackMark     = -4  // the mark on the stack, from Frame
	stackMarkSize = 4
)

// What the programs' registers hold.
const (
	socket = Arg3 // until its mark was read
	mark   = Arg2 // the socket's mark
	bits   = Arg3 // those bits of it that are ours
)

// create gives a new socket the mark, if it has none of our bits. It may have some
// where a cgroup below has programs of its own: those run first, so the deepest
// wins.
func create(m fwmark.Mark) []Instruction {
	return []Instruction{
		load32(mark, Context, sockMark),
		move32(bits, mark),
		and32(bits, m.Mask),
		outUnless32(bits, 0),
		or32(mark, m.Value),
		store32(Context, sockMark, mark),
	}
}

// connect does so for one that connects: for those older than the programs, and
// for subflows of MPTCP, which the kernel makes.
func connect(m fwmark.Mark) []Instruction {
	return append([]Instruction{
		load64(socket, Context, sockAddrSock),
		load32(mark, socket, sockMark),
		move32(bits, mark),
		and32(bits, m.Mask),
		outUnless32(bits, 0),
		or32(mark, m.Value),
	}, setMark()...)
}

// listen takes the mark off a socket that listens, so that what it accepts is
// answered by the source rules, by whichever uplink it came.
func listen(m fwmark.Mark) []Instruction {
	return append([]Instruction{
		load32(mark, Context, sockOpsOp),
		outUnless32(mark, unix.BPF_SOCK_OPS_TCP_LISTEN_CB),
		load64(socket, Context, sockOpsSock),
		outIfZero64(socket),
		load32(mark, socket, sockMark),
		move32(bits, mark),
		and32(bits, m.Mask),
		outUnless32(bits, m.Value),
		and32(mark, ^m.Mask),
	}, setMark()...)
}

// setMark has the socket of Context get what the register mark holds. Its route
// is looked up anew then. A failure changes nothing, and there is nobody to tell.
func setMark() []Instruction {
	return []Instruction{
		store32(Frame, stackMark, mark),
		set64(Arg2, unix.SOL_SOCKET),
		set64(Arg3, unix.SO_MARK),
		move64(Arg4, Frame),
		add64(Arg4, stackMark),
		set64(Arg5, stackMarkSize),
		call(bpfSetsockopt),
	}
}

// String returns the program as bpftool would print it.
func (p Program) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s\n", p.Place, p.Name())
	for at, i := range p.Code {
		fmt.Fprintf(&b, "%4d: %s\n", at, i.text(at))
	}
	return b.String()
}
