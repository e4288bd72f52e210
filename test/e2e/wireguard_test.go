package e2e

import (
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"wg-multihome/test/lab"
)

func newKey(t *testing.T) wgtypes.Key {
	t.Helper()
	key, err := wgtypes.GeneratePrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// peers returns the configuration of two devices that are each other's peer:
// the host's, with an endpoint at far, and far's.
func peers(t *testing.T) (host, far string) {
	t.Helper()
	return peersOf(t, lab.Far4, "10.200.0.2/32")
}

// peersOf has the other end at an address, with whatever the host sends there.
func peersOf(t *testing.T, endpoint string, allowed ...string) (host, far string) {
	t.Helper()
	keys := [2]wgtypes.Key{newKey(t), newKey(t)}
	private := func(i int) string { return hex.EncodeToString(keys[i][:]) }
	public := func(i int) string { k := keys[i].PublicKey(); return hex.EncodeToString(k[:]) }
	host = fmt.Sprintf("private_key=%s\npublic_key=%s\nendpoint=%s:51820\npersistent_keepalive_interval=1\nallowed_ip=%s", private(0), public(1), endpoint, strings.Join(allowed, "\nallowed_ip="))
	far = fmt.Sprintf("private_key=%s\nlisten_port=51820\npublic_key=%s\nallowed_ip=10.200.0.1/32\nallowed_ip=fd00:200::1/128", private(1), public(0))
	return host, far
}

func TestTunnelLeavesByItsUplink(t *testing.T) {
	l := newLab(t)
	l.Static()
	hostConfig, farConfig := peers(t)
	far := l.Tunnel(l.Far, "wg0", farConfig)
	// Without a mark it follows main's default, the first uplink.
	host := l.Tunnel(l.Namespace, "wg0", hostConfig)
	l.Script("ip addr add 10.200.0.1/24 dev wg0; ip link set wg0 up")
	lab.Until(t, "a handshake by the first uplink", func() bool { return strings.HasPrefix(far.Get("endpoint"), one4+":") })
	l.Interfaces("iface up2 inet dhcp\n\tmultihomed-fwmark 0x2005\n\tmultihomed-wireguard wg0 absent0\n")
	wantPart(t, "plan", l.MustMH("plan").Stdout, "= wg wg0 fwmark 0x2005\n")
	l.MustMH("sync")
	noDrift(t, l)
	wantEqual(t, "mark of the device", host.Get("fwmark"), "8197")
	lab.Until(t, "far sees the second uplink", func() bool { return strings.HasPrefix(far.Get("endpoint"), two4+":") })
	status := strings.Join(strings.Fields(l.MustMH("status").Stdout), " ")
	wantPart(t, "status", status, "wg0 up2 0x2005 0x2005")
	wantPart(t, "status", status, "absent0 up2 (absent) 0x2005")
	// No longer listed: it keeps its mark, and the status says so.
	l.Interfaces(pinned)
	l.MustMH("sync")
	wantEqual(t, "mark of the device", host.Get("fwmark"), "8197")
	wantPart(t, "status", l.MustMH("status").Stdout, "(not listed)")
	// The mark goes: the device is released before its guards.
	l.Interfaces("")
	said := l.MustMH("sync").Stderr
	release, guards := strings.Index(said, "= wg wg0 fwmark off"), strings.Index(said, "- rule 4 32754 fwmark 0x2005 unreachable")
	if release < 0 || guards < release {
		t.Errorf("released at %d, guards gone at %d:\n%s", release, guards, said)
	}
	wantEqual(t, "mark of the device", host.Get("fwmark"), "")
	noSpoof(t, l)
}

func TestTunnelDownReleasesDevices(t *testing.T) {
	l := newLab(t)
	l.Static()
	hostConfig, _ := peers(t)
	host := l.Tunnel(l.Namespace, "wg0", hostConfig)
	l.Interfaces("iface up2 inet dhcp\n\tmultihomed-fwmark 0x2005\n\tmultihomed-wireguard wg0\n")
	l.MustMH("sync")
	wantEqual(t, "mark", host.Get("fwmark"), "8197")
	l.MustMH("down")
	wantEqual(t, "mark after down", host.Get("fwmark"), "")
}

// TestTunnelHookOfTheShellScript is for hosts that keep the script: rules and routes
// are its own, and the device gets its mark once the guards stand.
func TestTunnelHookOfTheShellScript(t *testing.T) {
	l := newLab(t)
	l.Static()
	hostConfig, _ := peers(t)
	host := l.Tunnel(l.Namespace, "wg0", hostConfig)
	l.Interfaces("iface up2 inet dhcp\n\tmultihomed-fwmark 0x2005\n\tmultihomed-wireguard wg0\n")
	call := func(mark, table string, more ...string) lab.Result {
		return l.Try(append(more, "IFACE=up2", "FWMARK="+mark, "TABLE_ID="+table), l.Binary, "hook")
	}
	wantCode(t, call("0x2005", "3325256714"), 1) // no guards yet
	wantEqual(t, "mark", host.Get("fwmark"), "")
	l.Script(script)
	before := l.State()
	wantCode(t, call("0x2005", "3325256714", "MULTIHOMED_EVENT=up"), 0)
	wantEqual(t, "mark", host.Get("fwmark"), "")
	oneLine(t, call("0x2006", "3325256714"), "0x2006", "0x2005")
	oneLine(t, call("zero", "3325256714"), `FWMARK="zero"`)
	oneLine(t, call("0x2005", ""), "TABLE_ID=")
	oneLine(t, l.Try([]string{"IFACE=a/b", "TABLE_ID=1"}, l.Binary, "hook"), "IFACE=")
	wantCode(t, call("0x2005", "3325256714"), 0)
	wantEqual(t, "mark", host.Get("fwmark"), "8197")
	wantEqual(t, "state", l.State(), before)
	// The rules are the script's, so nothing but the lock is in the table.
	wantPart(t, "table", l.Run("nft", "list", "table", "inet", "wg_multihome"), "chain lock_0x2005")
	// What cannot be done is said; rules are the script's business.
	l.Script("ip route add default via 192.0.2.1 dev up1 table 77; ip rule add pref 3 lookup 77")
	wantCode(t, call("0x2005", "3325256714"), 0)
	l.Interfaces("iface up2 inet dhcp\n\tmultihomed-fwmark 0x2005\n\tmultihomed-cgroup a.service\n")
	l.Script("umount -l $(findmnt -n -l -o TARGET -t cgroup2 | tac)")
	r := call("0x2005", "3325256714")
	wantCode(t, r, 1)
	wantPart(t, "message", r.Stderr, "services cannot be pinned")
}

// TestTunnelWgQuickFullTunnel has the real wg-quick put its rules in front of ours,
// and take them away: PostUp and PostDown call us.
func TestTunnelWgQuickFullTunnel(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Interfaces(pinned)
	l.MustMH("sync")
	before := l.Rules("-4")
	own, peer := newKey(t), newKey(t)
	l.Write("/run/wg7.conf", fmt.Sprintf(`[Interface]
PrivateKey = %[1]s
Address = 10.200.0.1/24
PostUp = %[2]s sync --hook
PostDown = %[2]s sync --hook
[Peer]
PublicKey = %[3]s
AllowedIPs = 0.0.0.0/0
Endpoint = %[4]s:51820
`, own, l.Binary, peer.PublicKey(), lab.Far4), 0o600)
	quick := func(what string) {
		t.Helper()
		r := l.Try([]string{l.WireGuardGo()}, "wg-quick", what, "/run/wg7.conf")
		if r.Code != 0 {
			t.Fatalf("wg-quick %s: exit status %d\n%s%s%s", what, r.Code, r.Stdout, r.Stderr, l.Read("/run/wireguard-go.log"))
		}
	}
	quick("up")
	wantPart(t, "what goes by default", l.Run("ip", "route", "get", lab.Far4), "dev wg7")
	l.WantSeen(lab.Far4, "", mark, two4)
	l.WantSeen(lab.Far4, one4, 0, one4)
	noDrift(t, l)
	wantPart(t, "status", l.MustMH("status").Stdout, "in front of the foreign rule: rule 4 32750 lookup main suppress_prefixlength 0")
	wantNone(t, "uplinks", l.MustMH("status", "--json").Stdout, `"name": "wg7"`)
	quick("down")
	noDrift(t, l)
	wantEqual(t, "rules", sortLines(l.Rules("-4")), sortLines(before))
	l.WantSeen(lab.Far4, "", mark, two4)
	noSpoof(t, l)
}

// TestTunnelIsCutOffWithItsUplink: without its uplink nothing of the tunnel's
// leaves, and it is back with it.
func TestTunnelIsCutOffWithItsUplink(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Interfaces(tunnelled)
	l.MustMH("sync")
	hostConfig, farConfig := peers(t)
	far := l.Tunnel(l.Far, "wg0", farConfig)
	wrong := counting(t, l.ISP1, "prerouting priority -300", "iifname home udp dport 51820")
	l.Tunnel(l.Namespace, "wg0", "fwmark=8197\n"+hostConfig)
	l.Script("ip addr add 10.200.0.1/24 dev wg0; ip link set wg0 up")
	l.Far.Script("ip addr add 10.200.0.2/24 dev wg0; ip link set wg0 up")
	lab.Until(t, "far sees the second uplink", func() bool { return strings.HasPrefix(far.Get("endpoint"), two4+":") })
	l.Echo(l.Far, "", "10.200.0.2")
	answered := func() bool { return l.Ask(lab.Query{Network: "udp", Far: "10.200.0.2"}) == "10.200.0.1" }
	if !answered() {
		t.Error("far does not answer in the tunnel")
	}
	l.Run("ip", "link", "set", "up2", "down")
	l.MustMH("sync")
	if answered() {
		t.Error("far answers without the uplink")
	}
	l.Script("ip link set up2 up; ip route replace default via 198.51.100.1 dev up2 metric 2")
	l.MustMH("sync")
	lab.Until(t, "far answers again", answered)
	if n := wrong(); n != 0 {
		t.Errorf("%d packets of the tunnel left by the other uplink", n)
	}
}
