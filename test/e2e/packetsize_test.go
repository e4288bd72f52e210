package e2e

import (
	"fmt"
	"strings"
	"testing"

	"wg-multihome/test/lab"
)

// packetService has mark 0x2005 on up2, and a service there whose packets are
// marked. It returns the service's cgroup and the configuration's file.
func packetService(t *testing.T, l *lab.Lab) (service, config string) {
	t.Helper()
	service = l.MakeCgroup("a.service")
	return service, l.TOML(fmt.Sprintf("[uplink.up2]\nfwmark = %#x\nmarking = \"packet\"\ncgroups = [%q]\n", mark, service))
}

// Scripts that make a way of up2's narrow.
const (
	// narrowUplink has the uplink's own link take no more than 1400 bytes.
	narrowUplink = "ip link set up2 mtu 1400"
	narrowISP    = "ip link set home mtu 1400"

	// narrowBeyond has ISP2's router lead nothing larger on, either way.
	narrowBeyond = `for family in -4 -6; do
	ip $family route show dev far | grep -v ^fe80 | grep via | while read -r to rest; do ip $family route change $to $rest dev far mtu lock 1400; done
done
ip route change 198.51.100.0/24 dev home proto kernel scope link src 198.51.100.1 mtu lock 1400
ip -6 route change 2001:db8:2::/64 dev home proto kernel metric 256 mtu lock 1400`

	// silent has a router tell nobody what is too big.
	silent = `nft add table inet silent; nft add chain inet silent out '{ type filter hook output priority 0; }'
nft add rule inet silent out icmp type destination-unreachable icmp code frag-needed drop
nft add rule inet silent out icmpv6 type packet-too-big drop`

	// narrowRoutes is what a DHCP client makes of option 26 of a lease: an mtu in
	// main's default.
	narrowRoutes = `ip -4 route change default via 198.51.100.1 dev up2 metric 2 mtu 1400
ip -6 route change default via 2001:db8:2::1 dev up2 metric 2 mtu 1400`
)

// TestPinnedTransfersFitTheUplink: a pinned connection chose its route, and by it
// the size of its segments, before it had a mark. Each direction has a lab of its
// own: what is learned of the way by one would help the other.
func TestPinnedTransfersFitTheUplink(t *testing.T) {
	for _, c := range []struct{ name, host, isp string }{
		{"uplink", narrowUplink, narrowISP},
		{"uplink, and the ISP is silent", narrowUplink, narrowISP + "\n" + silent},
		{"further on", "", narrowBeyond},
		{"further on, and the ISP is silent, but the lease tells", narrowRoutes, narrowBeyond + "\n" + silent},
	} {
		for _, way := range []lab.Direction{lab.Download, lab.Upload} {
			t.Run(c.name+": "+string(way), func(t *testing.T) {
				l := newLab(t)
				l.Static()
				l.Script(c.host)
				l.ISP2.Script(c.isp)
				service, config := packetService(t, l)
				l.MustMH("sync", "--config", config)
				for _, far := range []string{lab.Far4, lab.Far6} {
					l.TransferServer(far)
					if got := l.Transfer(service, way, far); got != "done" {
						t.Errorf("%s: %s", far, got)
					}
				}
				noSpoof(t, l)
			})
		}
	}
}

// TestSegmentSizeIsTheUplinks: far is told of segments as large as the uplink
// takes, and of no larger ones than the host would have said by itself.
func TestSegmentSizeIsTheUplinks(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Script(narrowUplink)
	l.ISP2.Script(narrowISP)
	service, config := packetService(t, l)
	l.MustMH("sync", "--config", config)
	for _, c := range []struct {
		far, by string
		isp     *lab.Namespace
		cgroup  string
		size    int
	}{
		{lab.Far4, "ip", l.ISP2, service, 1360}, {lab.Far6, "ip6", l.ISP2, service, 1340},
		{lab.Far4, "ip", l.ISP1, "", 1460}, {lab.Far6, "ip6", l.ISP1, "", 1440},
	} {
		fits := counting(t, c.isp, "prerouting priority 0", fmt.Sprintf("iifname home %s daddr %s tcp flags syn tcp option maxseg size %d", c.by, c.far, c.size))
		if got := l.Ask(lab.Query{Network: "tcp", Far: c.far, Cgroup: c.cgroup}); strings.HasPrefix(got, "error: ") {
			t.Errorf("%s from %q: %s", c.far, c.cgroup, got)
		}
		if fits() == 0 {
			t.Errorf("%s from %q: no SYN says %d", c.far, c.cgroup, c.size)
		}
	}
	l.Script("ip link set up2 mtu 1300")
	wantPart(t, "plan", l.MustMH("plan", "--config", config).Stdout, "= nft chain lock_0x2005")
	noSpoof(t, l)
}
