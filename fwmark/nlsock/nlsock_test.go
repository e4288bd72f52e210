package nlsock

import (
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"
)

func TestCut(t *testing.T) {
	message := func(length uint32, body string) []byte {
		b := binary.NativeEndian.AppendUint32(nil, length)
		b = binary.NativeEndian.AppendUint16(b, 16)
		b = binary.NativeEndian.AppendUint16(b, 2)
		b = binary.NativeEndian.AppendUint32(b, 7)
		b = binary.NativeEndian.AppendUint32(b, 0)
		return append(b, body...)
	}
	for _, c := range []struct {
		name     string
		datagram []byte
		body     string
		rest     int // bytes; -1: an error
	}{
		{"nothing", nil, "", -1},
		{"half a header", message(16, "")[:15], "", -1},
		{"a header alone", message(16, ""), "", 0},
		{"shorter than its header", message(15, "abcd"), "", -1},
		{"longer than the datagram", message(21, "abcd"), "", -1},
		{"as long as a number can be", message(0xffffffff, "abcd"), "", -1},
		{"another one behind it", append(message(20, "abcd"), message(16, "")...), "abcd", 16},
		{"padded", append(message(18, "ab\x00\x00"), message(16, "")...), "ab", 16},
		{"the last one without its padding", message(18, "ab"), "ab", 0},
	} {
		m, rest, err := Cut(c.datagram)
		switch {
		case c.rest < 0 && err == nil:
			t.Errorf("%s: %+v", c.name, m)
		case c.rest >= 0 && (err != nil || string(m.Body) != c.body || len(rest) != c.rest || m.Kind != 16 || m.Flags != 2 || m.Sequence != 7):
			t.Errorf("%s: %+v, %d bytes left, %v", c.name, m, len(rest), err)
		}
	}
}

// TestAnswers asks for the links, which every network namespace has.
func TestAnswers(t *testing.T) {
	s, err := Open(unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	request := binary.NativeEndian.AppendUint32(nil, unix.NLMSG_HDRLEN+unix.SizeofIfInfomsg)
	request = binary.NativeEndian.AppendUint16(request, unix.RTM_GETLINK)
	request = binary.NativeEndian.AppendUint16(request, unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	request = append(request, make([]byte, 8+unix.SizeofIfInfomsg)...)
	if err := s.Send(request); err != nil {
		t.Fatal(err)
	}
	for links := 0; ; {
		b, err := s.Receive()
		if err != nil {
			t.Fatal(err)
		}
		for len(b) > 0 {
			var m Message
			if m, b, err = Cut(b); err != nil {
				t.Fatal(err)
			}
			switch m.Kind {
			case unix.RTM_NEWLINK:
				links++
			case unix.NLMSG_DONE:
				if links == 0 {
					t.Error("there is no link")
				}
				return
			default:
				t.Fatalf("answer %+v", m)
			}
		}
	}
}
