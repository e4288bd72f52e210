package wg

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// socket speaks WireGuard's cross-platform configuration protocol to userspace
// devices (https://www.wireguard.com/xplatform/), for their marks alone. It is
// used where wgctrl's int cannot hold a mark: 32-bit machines, 2³¹ and up.
type socket struct{ dir string }

// uapi is where wireguard-go and its like have their sockets.
var uapi = socket{dir: "/var/run/wireguard"}

// get returns a device's mark; 0 where the answer has none.
func (s socket) get(name string) (uint32, error) { return s.ask(name, "get=1\n\n") }

// set sets a device's mark.
func (s socket) set(name string, mark uint32) error {
	_, err := s.ask(name, fmt.Sprintf("set=1\nfwmark=%d\n\n", mark))
	return err
}

// ask sends one request. Of the answer it looks at nothing but the mark and
// errno, which comes last: no key is kept, and no error quotes a line.
func (s socket) ask(name, request string) (mark uint32, err error) {
	conn, err := net.DialTimeout("unix", s.path(name), callTime)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(callTime)); err != nil {
		return 0, err
	}
	if _, err := conn.Write([]byte(request)); err != nil {
		return 0, err
	}
	lines := bufio.NewScanner(conn)
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), "=")
		switch key {
		case "fwmark":
			n, err := strconv.ParseUint(value, 10, 32)
			if err != nil {
				return 0, errAnswer
			}
			mark = uint32(n)
		case "errno":
			n, err := strconv.ParseInt(value, 10, 16)
			if err != nil {
				return 0, errAnswer
			}
			if n != 0 {
				return 0, fmt.Errorf("it refuses: %w", syscall.Errno(max(n, -n)))
			}
			return mark, nil
		}
	}
	if err := lines.Err(); err != nil {
		return 0, err
	}
	return 0, errAnswer
}

func (s socket) path(name string) string { return filepath.Join(s.dir, name+".sock") }

// Userspace reports whether a userspace implementation has a socket for a
// device of that name. The sockets are shared by all network namespaces, and a
// killed process leaves its own: ask for names of links that are here.
func Userspace(name string) bool {
	_, err := os.Stat(uapi.path(name))
	return err == nil
}
