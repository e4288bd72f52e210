package kernel

import (
	"net/netip"
	"os/exec"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"wg-multihome/policy"
)

// TestAddresses reads what ip(8) made: with a peer, with a broadcast address of
// its own, of all scopes, and not to be used any more.
func TestAddresses(t *testing.T) {
	c := namespace(t)
	build(t, c)
	out, err := exec.Command("ip", "-batch", "testdata/addresses").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	f, err := c.Facts()
	must(t, err)
	broadcast := netip.MustParseAddr
	for _, want := range []policy.Address{
		{Device: "lo", Prefix: netip.MustParsePrefix("198.18.0.1/24"), Broadcast: broadcast("198.18.0.255"), Global: true},
		{Device: "lo", Prefix: netip.MustParsePrefix("198.18.1.1/24"), Broadcast: broadcast("198.18.1.77"), Global: true},
		{Device: "lo", Prefix: netip.MustParsePrefix("198.18.2.1/32"), Global: true}, // the length is the peer's
		{Device: "lo", Prefix: netip.MustParsePrefix("198.18.3.1/24")},
		{Device: "lo", Prefix: netip.MustParsePrefix("2001:db8:18::1/64"), Global: true},
		{Device: "lo", Prefix: netip.MustParsePrefix("2001:db8:18::2/128"), Global: true},
		{Device: "lo", Prefix: netip.MustParsePrefix("2001:db8:18::3/64"), Global: true, Deprecated: true},
	} {
		if !slices.Contains(f.Addrs, want) {
			t.Errorf("no %+v in:\n%+v", want, f.Addrs)
		}
	}
	if i := slices.IndexFunc(f.Links, func(l policy.Link) bool { return l.Name == "lo" }); i < 0 || !f.Links[i].Loopback || f.Links[i].Kind != "" {
		t.Errorf("links %+v", f.Links)
	}
	if i := slices.IndexFunc(f.Links, func(l policy.Link) bool { return l.Kind == "veth" && l.Up && !l.Loopback && !l.WireGuard }); i < 0 {
		t.Errorf("links %+v", f.Links)
	}
}

// TestVRF reads which links are in one; a bridge's ports are not. It is from
// messages, as few kernels of test machines have VRFs.
func TestVRF(t *testing.T) {
	message := func(name, kind string, master uint32) []byte {
		m := appendName(make([]byte, unix.SizeofIfInfomsg), unix.IFLA_IFNAME, name)
		m = appendAttribute(m, unix.IFLA_LINKINFO, appendName(nil, unix.IFLA_INFO_KIND, kind)...)
		return appendNumber(m, unix.IFLA_MASTER, master)
	}
	var links []policy.Link
	var masters []uint32
	for _, m := range [][]byte{message("red", "vrf", 0), message("br0", "bridge", 1), message("up1", "veth", 1), message("up2", "veth", 2), message("up3", "veth", 0)} {
		l, _, master, err := decodeLink(m)
		must(t, err)
		links, masters = append(links, l), append(masters, master)
	}
	nameVRFs(links, masters, map[uint32]string{1: "red", 2: "br0"})
	for _, l := range links {
		want := map[string]string{"br0": "red", "up1": "red"}[l.Name]
		if l.VRF != want {
			t.Errorf("%s is in VRF %q, want %q", l.Name, l.VRF, want)
		}
	}
}
