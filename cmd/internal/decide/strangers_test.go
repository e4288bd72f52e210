package decide

import (
	"strings"
	"testing"

	"wg-multihome/fwmark"
	"wg-multihome/policy"
	"wg-multihome/wg"
)

func TestStrangers(t *testing.T) {
	pin := fwmark.Pin{Mark: fwmark.Mark{Value: 5, Mask: fwmark.FullMask}, Uplink: "up2", Devices: []string{"awg0", "dummy0", "eth7", "gone", "hung", "tun0", "wg0"}}
	var d Decision
	d.Pins = []fwmark.Pin{pin}
	for name, kind := range map[string]string{"awg0": "amneziawg", "dummy0": "dummy", "eth7": "", "hung": "wireguard", "tun0": "tun", "wg0": "wireguard"} {
		d.Facts.Links = append(d.Facts.Links, policy.Link{Name: name, Kind: kind})
	}
	d.Devices = Devices{Found: []wg.Device{{Name: "wg0"}}, Unread: []string{"hung"}}
	var said []string
	for _, err := range d.strangers() {
		said = append(said, err.Error())
	}
	const want = `device "awg0", which uplink "up2" lists, is no WireGuard device that can be told its mark from here, but AmneziaWG's (FwMark in its own file gives it one): it is not pinned
device "dummy0", which uplink "up2" lists, is no WireGuard device, but of kind "dummy": it is not pinned
device "eth7", which uplink "up2" lists, is no WireGuard device: it is not pinned
device "tun0", which uplink "up2" lists, is no WireGuard device, as no process answers for it: it is not pinned`
	if got := strings.Join(said, "\n"); got != want {
		t.Errorf("said\n%s\nwant\n%s", got, want)
	}
}
