package e2e

import (
	"testing"

	"wg-multihome/test/lab"
)

// TestHookKeepsOthersNotes: what is to be refreshed by another uplink stays so,
// also where a call is refused.
func TestHookKeepsOthersNotes(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Interfaces("iface up1 inet dhcp\n\tmultihomed-fwmark 0x2006\n\tmultihomed-wireguard wg1\niface up2 inet dhcp\n\tmultihomed-fwmark 0x2005\n\tmultihomed-wireguard wg0\n")
	devices(t, l, 1, "wg0", "wg1")
	l.MustMH("sync")
	noneDue(t, l)
	l.Script("mkdir -p /run/wg-multihome/due; echo killed | tee /run/wg-multihome/due/wg0 >/run/wg-multihome/due/wg1")
	call := func(mark string) lab.Result {
		return l.Try([]string{"IFACE=up2", "FWMARK=" + mark, "TABLE_ID=3325256714"}, l.Binary, "hook")
	}
	oneLine(t, call("0x2007"), "0x2007")
	wantEqual(t, "due after a call that was refused", l.Run("ls", "/run/wg-multihome/due"), "wg0\nwg1\n")
	wantCode(t, call("0x2005"), 0)
	wantEqual(t, "due after the hook", l.Run("ls", "/run/wg-multihome/due"), "wg1\n")
	l.MustMH("sync")
	noneDue(t, l)
}
