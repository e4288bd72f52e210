package e2e

import (
	"strings"
	"testing"

	"wg-multihome/test/lab"
)

// TestUserspaceKeptDevicesAreTold: an error in the configuration makes it doubtful whose a
// device is. It keeps its mark, and so hooks are told of it and it is refreshed
// when its uplink gets another address.
func TestUserspaceKeptDevicesAreTold(t *testing.T) {
	for name, broken := range map[string]string{
		"a mark that is none":       strings.Replace(tunnelled, "0x2005", "0x200x", 1),
		"a mark that is claimed":    tunnelled + "iface up1 inet static\n\tmultihomed-fwmark 0x2005\n",
		"a device that is claimed":  tunnelled + "iface up1 inet static\n\tmultihomed-fwmark 0x2006\n\tmultihomed-wireguard wg0\n",
		"a file that is away":       "",
		"a stanza that is not read": "iface up1 inet static\n\tmultihomed-fwmark x\n",
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.Static()
			l.Interfaces(tunnelled)
			d := devices(t, l, 1, "wg0")[0]
			l.Write("/etc/dhcp/multihomed.d/devices", "#!/bin/sh\necho $IFACE $MULTIHOMED_FAMILY $MULTIHOMED_EVENT $FWMARK [$MULTIHOMED_WIREGUARD] >>/run/devices\n", 0o755)
			wantCode(t, l.Event(bound("BOUND", two4, "198.51.100.1")...), 0)
			l.Interfaces(broken)
			before := d.kicks.Load()
			l.Script("ip addr add 198.51.100.77/24 dev up2; ip addr del 198.51.100.10/24 dev up2; ip route replace default via 198.51.100.1 dev up2 metric 2")
			wantCode(t, l.Event(bound("RENEW", "198.51.100.77", "198.51.100.1")...), 2)
			wantPart(t, "what hooks were told", l.Read("/run/devices"), "up2 4 change 0x2005 [wg0]\n")
			if n := d.kicks.Load() - before; n != 1 {
				t.Errorf("%d kicks, want 1", n)
			}
			noneDue(t, l)
			l.WantSeen(lab.Far4, "", mark, "198.51.100.77")
		})
	}
}
