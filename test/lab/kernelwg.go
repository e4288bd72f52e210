package lab

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.zx2c4.com/wireguard/wgctrl"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

// kernelDevice is a device of the kernel's WireGuard that speaks as much of the
// cross-platform protocol as tests use.
type kernelDevice struct {
	name string
	ctrl *wgctrl.Client
}

// openKernel makes a device, and returns nil where the kernel has no
// WireGuard.
func openKernel(name string) (*kernelDevice, error) {
	err := netlink.LinkAdd(&netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Name: name}, LinkType: "wireguard"})
	if errors.Is(err, syscall.EOPNOTSUPP) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	ctrl, err := wgctrl.New()
	return &kernelDevice{name, ctrl}, err
}

// Close removes the device.
func (d *kernelDevice) Close() {
	if link, err := netlink.LinkByName(d.name); err == nil {
		_ = netlink.LinkDel(link)
	}
}

// Up sets the link up.
func (d *kernelDevice) Up() error {
	link, err := netlink.LinkByName(d.name)
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(link)
}

// IpcSet configures the device.
func (d *kernelDevice) IpcSet(config string) error {
	var c wgtypes.Config
	lines := bufio.NewScanner(strings.NewReader(config))
	for lines.Scan() {
		key, value, _ := strings.Cut(lines.Text(), "=")
		if err := setKernel(&c, key, value); err != nil {
			return fmt.Errorf("%s: %w", key, err)
		}
	}
	return d.ctrl.ConfigureDevice(d.name, c)
}

func setKernel(c *wgtypes.Config, key, value string) (err error) {
	last := len(c.Peers) - 1
	switch key {
	case "private_key":
		c.PrivateKey, err = hexKey(value)
	case "listen_port":
		var port int
		port, err = strconv.Atoi(value)
		c.ListenPort = &port
	case "fwmark":
		var mark uint64
		mark, err = strconv.ParseUint(value, 0, 32)
		number := int(mark)
		c.FirewallMark = &number
	case "public_key":
		var k *wgtypes.Key
		if k, err = hexKey(value); err == nil {
			c.Peers = append(c.Peers, wgtypes.PeerConfig{PublicKey: *k})
		}
	case "endpoint":
		c.Peers[last].Endpoint, err = net.ResolveUDPAddr("udp", value)
	case "persistent_keepalive_interval":
		var every time.Duration
		every, err = time.ParseDuration(value + "s")
		c.Peers[last].PersistentKeepaliveInterval = &every
	case "allowed_ip":
		var prefix *net.IPNet
		if _, prefix, err = net.ParseCIDR(value); err == nil {
			c.Peers[last].AllowedIPs = append(c.Peers[last].AllowedIPs, *prefix)
		}
	case "":
	default:
		err = errors.New("is not known here")
	}
	return err
}

func hexKey(s string) (*wgtypes.Key, error) {
	b, err := hex.DecodeString(s)
	if err != nil {
		return nil, err
	}
	k, err := wgtypes.NewKey(b)
	return &k, err
}

// IpcGet returns the device's state, without private keys.
func (d *kernelDevice) IpcGet() (string, error) {
	w, err := d.ctrl.Device(d.name)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "listen_port=%d\n", w.ListenPort)
	if w.FirewallMark != 0 {
		fmt.Fprintf(&b, "fwmark=%d\n", uint32(w.FirewallMark))
	}
	for _, p := range w.Peers {
		writePeer(&b, p)
	}
	return b.String(), nil
}

func writePeer(w io.Writer, p wgtypes.Peer) {
	fmt.Fprintf(w, "public_key=%s\n", hex.EncodeToString(p.PublicKey[:]))
	if p.Endpoint != nil {
		fmt.Fprintf(w, "endpoint=%s\n", p.Endpoint)
	}
	handshake := int64(0)
	if !p.LastHandshakeTime.IsZero() {
		handshake = p.LastHandshakeTime.Unix()
	}
	fmt.Fprintf(w, "last_handshake_time_sec=%d\ntx_bytes=%d\nrx_bytes=%d\npersistent_keepalive_interval=%d\n",
		handshake, p.TransmitBytes, p.ReceiveBytes, int(p.PersistentKeepaliveInterval.Seconds()))
	for _, a := range p.AllowedIPs {
		fmt.Fprintf(w, "allowed_ip=%s\n", a.String())
	}
}
