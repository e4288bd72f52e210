package e2e

import "testing"

// TestMaskAloneChanges: the number stays on the device that has it, as the mark
// that comes selects it, too.
func TestMaskAloneChanges(t *testing.T) {
	l := newLab(t)
	l.Static()
	d := devices(t, l, 1, "wg0")[0]
	d.mark.Store("0")
	for i, mark := range []string{"0x200", "0x200/0xff00", "0x200"} {
		l.Interfaces("iface up2 inet dhcp\n multihomed-fwmark " + mark + "\n multihomed-wireguard wg0\n")
		said := l.MustMH("sync", "-v").Stderr
		wantPart(t, "sync", said, "fwmark "+mark+" unreachable")
		wantNone(t, "sync", said, "= wg wg0 fwmark off")
		if i > 0 {
			wantPart(t, "sync", said, "- rule 4 32754 fwmark ")
		}
		wantEqual(t, "the device's mark", d.mark.Load().(string), "512")
		wantEqual(t, "plan", l.MustMH("plan").Stdout, "")
	}
}
