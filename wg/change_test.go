package wg_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"wg-multihome/fwmark"
	"wg-multihome/wg"
	"wg-multihome/wg/wgtest"
)

// text shows changes as a plan does.
func text(changes []wg.Change) string {
	lines := make([]string, len(changes))
	for i, c := range changes {
		lines[i] = c.String()
	}
	return strings.Join(lines, "\n")
}

// key is a public key of which only what is shown is there; the text of a
// change tells no more.
func key(first byte) (k wg.Key) {
	for i := range 6 {
		k[i] = first + byte(i)
	}
	return k
}

func full(value uint32) fwmark.Mark { return fwmark.Mark{Value: value, Mask: fwmark.FullMask} }

func TestWant(t *testing.T) {
	devices := []wg.Device{{"wg9", 0}, {"wg0", 0x2005}, {"wg1", 0x2006}, {"wg2", 0x2000}, {"wg3", 7}, {"wg4", 0xffff2005}}
	pins := []fwmark.Pin{
		{Mark: full(0x2005), Uplink: "eth0", Devices: []string{"wg9", "wg0", "wg1", "absent"}},
		{Mark: fwmark.Mark{Value: 0x2000, Mask: 0xff00}, Uplink: "eth1", Devices: []string{"wg2", "wg4"}},
		{Mark: full(0x2007), Kept: true},
		{Mark: full(0xfffffff0), Uplink: "eth2"},
	}
	want := `= wg wg1 fwmark 0x2005
= wg wg4 fwmark 0x2000
= wg wg9 fwmark 0x2005`
	if got := text(wg.Want(devices, pins)); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got := wg.Want(devices, nil); got != nil {
		t.Errorf("without pins: %v", got)
	}
}

func TestRelease(t *testing.T) {
	devices := []wg.Device{{"wg5", 0x2005}, {"wg4", 0x2105}, {"wg3", 0x2006}, {"wg2", 0}, {"wg1", 0xffff2005}, {"wg0", 0x210f}}
	masked := func(value, mask uint32) fwmark.Mark { return fwmark.Mark{Value: value, Mask: mask} }
	marks := func(m ...fwmark.Mark) []fwmark.Mark { return m }
	for _, c := range []struct {
		going, pinned []fwmark.Mark
		except        []uint32
		want          string
	}{
		{nil, nil, nil, ""},
		{marks(fwmark.Mark{}), nil, nil, ""},
		{marks(full(0x2005)), nil, nil, "= wg wg5 fwmark off"},
		{marks(full(0x2005)), nil, []uint32{0x2005}, ""},
		{marks(masked(0x2100, 0xff00)), nil, nil, "= wg wg0 fwmark off\n= wg wg4 fwmark off"},
		{marks(masked(0x2100, 0xff00)), nil, []uint32{0x210f, 0x2005}, "= wg wg4 fwmark off"},
		{marks(masked(0x2005, 0xffff), full(0x2006)), nil, nil, "= wg wg1 fwmark off\n= wg wg3 fwmark off\n= wg wg5 fwmark off"},
		// The mask alone changes, to and fro.
		{marks(full(0x2005)), marks(masked(0x2005, 0xffff)), nil, ""},
		{marks(masked(0x2005, 0xffff)), marks(full(0x2005)), nil, "= wg wg1 fwmark off"},
		{marks(masked(0x2100, 0xff00)), marks(masked(0x2105, 0xffff)), nil, "= wg wg0 fwmark off"},
		{marks(masked(0x2100, 0xff00)), marks(masked(0x2105, 0xfff0), full(0x2006)), nil, "= wg wg0 fwmark off\n= wg wg4 fwmark off"},
		{marks(full(0x2005), full(0x2006)), marks(full(0x2006)), nil, "= wg wg5 fwmark off"},
	} {
		var pins []fwmark.Pin
		for _, m := range c.pinned {
			pins = append(pins, fwmark.Pin{Mark: m, Uplink: "up1"})
		}
		if got := text(wg.Release(devices, c.going, pins, c.except)); got != c.want {
			t.Errorf("going %v, pinned %v, except %v: got\n%s\nwant\n%s", c.going, c.pinned, c.except, got, c.want)
		}
	}
}

// TestReleaseTakesNothingThatIsPinned: whatever marks go and come.
func TestReleaseTakesNothingThatIsPinned(t *testing.T) {
	mark := rapid.Custom(func(t *rapid.T) fwmark.Mark {
		mask := rapid.SampledFrom([]uint32{1, 3, 7, 6, fwmark.FullMask}).Draw(t, "mask")
		return fwmark.Mark{Value: rapid.Uint32Range(1, 7).Draw(t, "value") & mask, Mask: mask}
	}).Filter(func(m fwmark.Mark) bool { return m.Value != 0 })
	rapid.Check(t, func(t *rapid.T) {
		going := rapid.SliceOfN(mark, 0, 3).Draw(t, "going")
		var pins []fwmark.Pin
		for _, m := range rapid.SliceOfN(mark, 0, 3).Draw(t, "pinned") {
			pins = append(pins, fwmark.Pin{Mark: m})
		}
		var devices []wg.Device
		for i, number := range rapid.SliceOfN(rapid.Uint32Range(0, 8), 0, 4).Draw(t, "devices") {
			devices = append(devices, wg.Device{Name: fmt.Sprintf("wg%d", i), Mark: number})
		}
		released := map[string]bool{}
		for _, c := range wg.Release(devices, going, pins, nil) {
			released[c.Device] = true
		}
		for _, d := range devices {
			goes := slices.ContainsFunc(going, func(m fwmark.Mark) bool { return d.Mark&m.Mask == m.Value })
			stays := slices.ContainsFunc(pins, func(p fwmark.Pin) bool { return d.Mark&p.Mark.Mask == p.Mark.Value })
			if released[d.Name] != (goes && !stays) {
				t.Errorf("%v: released is %t; %v go, pinned are %v", d, released[d.Name], going, pins)
			}
		}
	})
}

func TestChangeText(t *testing.T) {
	for _, c := range []struct {
		change wg.Change
		text   string
	}{
		{wg.Change{Device: "wg0", Mark: 0x2005}, "= wg wg0 fwmark 0x2005"},
		{wg.Change{Device: "wg0.5-ü", Mark: 0xffffffff}, "= wg wg0.5-ü fwmark 0xffffffff"},
		{wg.Change{Device: "off"}, "= wg off fwmark off"},
		{wg.Change{Device: "wg0", Kind: wg.RotatePort}, "= wg wg0 listen-port 0"},
		{wg.Change{Device: "wg0", Kind: wg.Kick, Peer: key(1), Keepalive: 25}, "= wg wg0 peer AQIDBAUG persistent-keepalive 0 25"},
		{wg.Change{Device: "wg0", Kind: wg.SetEndpoint, Peer: key(1), Endpoint: netip.MustParseAddrPort("203.0.113.1:51820")}, "= wg wg0 peer AQIDBAUG endpoint 203.0.113.1:51820"},
		{wg.Change{Device: "wg0", Kind: wg.SetEndpoint, Peer: key(1), Endpoint: netip.MustParseAddrPort("[2001:db8::1]:1")}, "= wg wg0 peer AQIDBAUG endpoint [2001:db8::1]:1"},
	} {
		if got := fmt.Sprint(c.change); got != c.text {
			t.Errorf("got %s, want %s", got, c.text)
		}
		if got, err := wgtest.ParseChange(c.text); err != nil || got != c.change {
			t.Errorf("%s: got %v %v", c.text, got, err)
		}
	}
}
