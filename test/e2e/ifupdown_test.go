package e2e

import (
	"testing"

	"wg-multihome/test/lab"
)

// TestIfupdownWords reads, with the real ifquery, what interfaces(5) allows:
// sourced files, continued and repeated options, two stanzas of one name.
func TestIfupdownWords(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Interfaces("source /etc/network/interfaces.d/*\nsource-directory /etc/network/more\n")
	l.Write("/etc/network/interfaces.d/one.cfg", "# an uplink\niface up1 inet static\n\taddress 192.0.2.10/24\n\tmultihomed-fwmark \\\n\t\t0x1001\n", 0o644)
	l.Write("/etc/network/more/two", `iface up2 inet manual
	multihomed-fwmark 0x2005
	multihomed-wireguard wg0
	multihomed-wireguard absent0 \
		absent1
iface up2 inet6 manual
	multihomed-gateway 2001:db8:2::1
`, 0o644)
	l.MustMH("sync")
	noDrift(t, l)
	for _, family := range []string{"-4", "-6"} {
		wantPart(t, "rules", l.Rules(family), "32754: from all fwmark 0x1001 unreachable proto 77")
		wantPart(t, "rules", l.Rules(family), "32754: from all fwmark 0x2005 unreachable proto 77")
	}
	status := l.MustMH("status").Stdout
	for _, device := range []string{"absent0", "absent1"} {
		wantPart(t, "status", status, device)
	}
	l.WantSeen(lab.Far4, "", 0x1001, one4)
	l.WantSeen(lab.Far4, "", mark, two4)
	l.WantSeen(lab.Far6, "", mark, two6)
	noSpoof(t, l)
}

// TestLogicalInterface has an interface that was brought up under another
// name: it has the options of that one, and none of the stanza of its own name.
func TestLogicalInterface(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Interfaces("iface up2 inet manual\n\tmultihomed-fwmark 0x3003\niface home inet manual\n\tmultihomed-fwmark 0x2005\n")
	l.Run("ifup", "up2=home")
	l.MustMH("sync")
	noDrift(t, l)
	wantPart(t, "rules", l.Rules("-4"), "from all fwmark 0x2005 unreachable")
	// The mark of the stanza that it does not have is configured all the same:
	// it has its guards, and leads nowhere.
	wantPart(t, "rules", l.Rules("-4"), "from all fwmark 0x3003 unreachable")
	l.WantRefused(lab.Far4, "", 0x3003)
	l.WantSeen(lab.Far4, "", mark, two4)
	l.Run("ifdown", "up2")
	l.Run("ip", "link", "set", "up2", "up")
	l.Script("ip addr replace 198.51.100.10/24 dev up2; ip route replace default via 198.51.100.1 dev up2 metric 2")
	l.Run("ifup", "up2")
	l.MustMH("sync")
	noDrift(t, l)
	wantPart(t, "rules", l.Rules("-4"), "from all fwmark 0x3003 unreachable")
	l.WantSeen(lab.Far4, "", 0x3003, two4)
	l.WantRefused(lab.Far4, "", mark)
	noSpoof(t, l)
}

// TestTemplateIsNoUplink has a stanza that another one inherits: its options
// count for the heir, not for an interface of its own.
func TestTemplateIsNoUplink(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Interfaces("iface modem inet manual\n\tmultihomed-fwmark 0x2005\niface up2 inet manual inherits modem\n")
	l.MustMH("sync")
	noDrift(t, l)
	l.WantSeen(lab.Far4, "", mark, two4)
	wantNone(t, "status", l.MustMH("status").Stdout, "modem")
	noSpoof(t, l)
}

// TestIfupWithARealLease brings an uplink up as Debian does: ifup runs
// dhclient, which runs our hook, which runs ifquery.
func TestIfupWithARealLease(t *testing.T) {
	l := newLab(t)
	l.Script("ip addr add 192.0.2.10/24 dev up1; ip route add default via 192.0.2.1 dev up1 metric 1; ip link set up2 down")
	l.Interfaces(pinned)
	l.Hook()
	l.Serve(l.ISP2, "198.51.100.20", "198.51.100.20")
	t.Cleanup(func() { l.Try(nil, "ifdown", "up2") })
	l.Run("ifup", "up2")
	l.WantSeen(lab.Far4, "", mark, "198.51.100.20")
	l.WantSeen(lab.Far4, "198.51.100.20", 0, "198.51.100.20")
	wantEqual(t, "default of up2 in main", l.Run("ip", "route", "show", "default", "dev", "up2"), "default via 198.51.100.1 metric 2 \n")
	noDrift(t, l)
	l.Run("ifdown", "up2")
	l.WantRefused(lab.Far4, "", mark)
	for _, family := range []string{"-4", "-6"} {
		wantPart(t, "guards", l.Rules(family), "fwmark 0x2005 unreachable")
	}
	l.Run("ifup", "up2")
	l.WantSeen(lab.Far4, "", mark, "198.51.100.20")
	noDrift(t, l)
	noSpoof(t, l)
}
