package e2e

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"wg-multihome/test/lab"
)

// userDevice is what a process has that gives the host a userspace device: it
// answers on the device's socket, or holds its tongue. It carries nothing.
type userDevice struct {
	name   string
	peers  int
	mark   atomic.Value // as text, in decimal
	silent atomic.Bool
	unset  atomic.Bool  // silent when it is to be changed
	kicks  atomic.Int64 // keepalives that went on
}

// devices makes userspace devices with so many peers each; they have mark
// 0x2005.
func devices(t *testing.T, l *lab.Lab, peers int, names ...string) []*userDevice {
	t.Helper()
	var all []*userDevice
	links := "mkdir -p /run/wireguard"
	for _, name := range names {
		links += "\nip tuntap add dev " + name + " mode tun"
	}
	l.Script(links)
	for _, name := range names {
		listener, err := net.Listen("unix", l.Path("/run/wireguard/"+name+".sock"))
		if err != nil {
			t.Fatalf("no socket there: %v", err)
		}
		t.Cleanup(func() { _ = listener.Close() })
		d := &userDevice{name: name, peers: peers}
		d.mark.Store("8197")
		go d.serve(listener)
		all = append(all, d)
	}
	return all
}

func (d *userDevice) serve(listener net.Listener) {
	for {
		c, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			d.answer(c)
		}()
	}
}

// answer answers requests until the other end hangs up.
func (d *userDevice) answer(c net.Conn) {
	get := false
	for lines := bufio.NewScanner(c); lines.Scan(); {
		key, value, _ := strings.Cut(lines.Text(), "=")
		switch {
		case d.silent.Load():
		case key == "get":
			get = true
		case !get && d.unset.Load():
		case key == "fwmark":
			d.mark.Store(value)
		case key == "persistent_keepalive_interval" && value != "0":
			d.kicks.Add(1)
		case key == "":
			said := "errno=0\n\n"
			if get {
				said = d.state() + said
			}
			if _, err := c.Write([]byte(said)); err != nil {
				return
			}
			get = false
		}
	}
}

// key is the public key of a peer of the device.
func (d *userDevice) key(peer int) [32]byte { return sha256.Sum256(fmt.Append(nil, d.name, peer)) }

func (d *userDevice) state() string {
	var s strings.Builder
	fmt.Fprintf(&s, "fwmark=%s\n", d.mark.Load())
	for i := range d.peers {
		fmt.Fprintf(&s, "public_key=%x\nendpoint=%s:51820\npersistent_keepalive_interval=25\n", d.key(i), lab.Far4)
	}
	return s.String()
}

// TestDevicesThatAreNone: a listed device that is no WireGuard device is an error,
// and costs nothing else.
func TestDevicesThatAreNone(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Script("ip link add strange type veth peer estrange")
	wg := devices(t, l, 1, "wg0")[0]
	wg.mark.Store("0")
	l.Interfaces(pinned + "\tmultihomed-wireguard strange gone wg0\n")
	const text = `device "strange", which uplink "up2" lists, is no WireGuard device, but of kind "veth": it is not pinned`
	for _, command := range []string{"sync", "plan", "status"} {
		r := l.MH(command)
		wantCode(t, r, 1)
		wantPart(t, command, r.Stdout+r.Stderr, text)
		wantEqual(t, "mark of wg0", wg.mark.Load().(string), "8197")
	}
	l.WantSeen(lab.Far4, "", 0x2005, two4)
	wantCode(t, l.MH("sync", "--hook"), 0)
	l.Script("ip link del strange")
	l.MustMH("sync")
}
