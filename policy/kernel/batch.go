package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// batch sends changes over one socket, many in one datagram: the kernel works
// them off one by one before send(2) comes back, and answers those alone that
// failed, and the last.
//
// It is not nl's socket: that one asks for each answer by itself, which takes
// twice the time for a thousand addresses.
type batch struct{ fd int }

func openBatch() (*batch, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	limit := unix.NsecToTimeval(answerTime.Nanoseconds())
	if err := errors.Join(
		unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &limit),
	); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	// Not worth failing for: errors in words, and without the whole request.
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_EXT_ACK, 1)
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1)
	return &batch{fd}, nil
}

func (b *batch) close() { _ = unix.Close(b.fd) }

// batchSize bounds the requests in one datagram, so that all their answers fit
// the socket's receive buffer (net.core.rmem_default, 208 KiB; an answer takes
// less than 1 KiB of it).
const batchSize = 128

// execute makes the changes, in their order, and returns the error of each.
func (b *batch) execute(reqs []*nl.NetlinkRequest) []error {
	errs := make([]error, 0, len(reqs))
	for len(reqs) > 0 {
		n := min(len(reqs), batchSize)
		errs = append(errs, b.send(reqs[:n])...)
		reqs = reqs[n:]
	}
	return errs
}

func (b *batch) send(reqs []*nl.NetlinkRequest) []error {
	errs := make([]error, len(reqs))
	var datagram []byte
	for i, r := range reqs {
		r.Seq = uint32(i + 1)
		if i == len(reqs)-1 {
			r.Flags |= unix.NLM_F_ACK
		}
		m := r.Serialize()
		datagram = append(datagram, m...)
		datagram = append(datagram, make([]byte, aligned(len(m))-len(m))...)
	}
	err := unix.Sendto(b.fd, datagram, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	if err == nil {
		err = b.receive(errs)
	}
	if err != nil {
		for i := range errs {
			errs[i] = err
		}
	}
	return errs
}

// receive takes answers in until that of the last request.
func (b *batch) receive(errs []error) error {
	buffer := make([]byte, 64<<10)
	for {
		n, _, err := unix.Recvfrom(b.fd, buffer, 0)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return fmt.Errorf("no answer of the kernel within %s", answerTime)
		case err != nil:
			return err
		}
		last, err := answers(buffer[:n], errs)
		if err != nil || last {
			return err
		}
	}
}

// answers reads a datagram of answers into errs, by sequence number from 1 on,
// and reports whether that of the last request was among them.
func answers(b []byte, errs []error) (last bool, err error) {
	for len(b) >= unix.SizeofNlMsghdr {
		length := int(binary.NativeEndian.Uint32(b))
		if length < unix.SizeofNlMsghdr || length > len(b) {
			return false, fmt.Errorf("answer of %d bytes, %d are there", length, len(b))
		}
		kind, flags, seq := binary.NativeEndian.Uint16(b[4:]), binary.NativeEndian.Uint16(b[6:]), int(binary.NativeEndian.Uint32(b[8:]))
		if kind == unix.NLMSG_ERROR && seq >= 1 && seq <= len(errs) {
			if errs[seq-1], err = answer(b[unix.SizeofNlMsghdr:length], flags); err != nil {
				return false, err
			}
			last = last || seq == len(errs)
		}
		b = b[min(len(b), aligned(length)):]
	}
	return last, nil
}

// answer reads struct nlmsgerr: an errno, the request's header, and where
// flags say so the kernel's own words.
func answer(b []byte, flags uint16) (outcome, err error) {
	if len(b) < 4+unix.SizeofNlMsghdr {
		return nil, errShort
	}
	errno := int32(binary.NativeEndian.Uint32(b))
	if errno == 0 {
		return nil, nil
	}
	outcome = unix.Errno(-errno)
	if flags&unix.NLM_F_ACK_TLVS == 0 {
		return outcome, nil
	}
	skip := 4 + unix.SizeofNlMsghdr
	if flags&unix.NLM_F_CAPPED == 0 { // the whole request was sent back
		skip = 4 + aligned(int(binary.NativeEndian.Uint32(b[4:])))
	}
	if skip < 0 || skip > len(b) {
		return nil, errShort
	}
	attrs, err := attributes(b[skip:])
	if err != nil {
		return nil, err
	}
	for _, a := range attrs {
		if a.kind == nl.NLMSGERR_ATTR_MSG {
			outcome = fmt.Errorf("%w: %s", outcome, unix.ByteSliceToString(a.value))
		}
	}
	return outcome, nil
}
