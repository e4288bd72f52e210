package decide

import (
	"net/netip"
	"slices"
	"testing"

	"wg-multihome/cmd/internal/state"
	"wg-multihome/fwmark"
	"wg-multihome/fwmark/config"
	"wg-multihome/policy"
	"wg-multihome/wg"
)

// TestAnErrorKeepsDevicesWithTheirUplink: while the configuration has an error,
// hooks are told of the devices that carry an uplink's mark, and those are
// refreshed when the way of their packets changes.
func TestAnErrorKeepsDevicesWithTheirUplink(t *testing.T) {
	mark := fwmark.Mark{Value: 0x2005, Mask: fwmark.FullMask}
	other := fwmark.Mark{Value: 0x2006, Mask: fwmark.FullMask}
	next := fwmark.Mark{Value: 0x1, Mask: fwmark.FullMask}
	refused := []fwmark.Problem{{Text: "elsewhere"}}
	for name, c := range map[string]struct {
		config  config.Config
		devices []wg.Device
		mark    fwmark.Mark // what hooks are told of up2
		want    []string
		rotate  bool
	}{
		"the file cannot be read": {
			config: config.Config{Problems: refused}, devices: []wg.Device{{Name: "wg0", Mark: mark.Value}, {Name: "wg1"}, {Name: "wg2", Mark: 7}},
			mark: mark, want: []string{"wg0"},
		},
		"the mark was refused": {
			config:  config.Config{Problems: refused, Intents: []fwmark.Intent{{Uplink: "up2", Devices: []string{"wg0"}, RotatePort: []string{"wg0"}}}},
			devices: []wg.Device{{Name: "wg0", Mark: mark.Value}}, mark: mark, want: []string{"wg0"}, rotate: true,
		},
		"two uplinks claim the mark": {
			config:  config.Config{Intents: []fwmark.Intent{{Uplink: "up1", Mark: mark, Devices: []string{"wg1"}}, {Uplink: "up2", Mark: mark, Devices: []string{"wg0"}}}},
			devices: []wg.Device{{Name: "wg0", Mark: mark.Value}, {Name: "wg1"}}, mark: mark, want: []string{"wg0"},
		},
		"two uplinks claim the device": {
			config:  config.Config{Intents: []fwmark.Intent{{Uplink: "up1", Mark: other, Devices: []string{"wg0"}}, {Uplink: "up2", Mark: mark, Devices: []string{"wg0", "wg1"}}}},
			devices: []wg.Device{{Name: "wg0", Mark: mark.Value}, {Name: "wg1", Mark: mark.Value}}, mark: mark, want: []string{"wg0", "wg1"},
		},
		"it gets another mark": {
			config:  config.Config{Problems: refused, Intents: []fwmark.Intent{{Uplink: "up2", Mark: next, Devices: []string{"wg0"}}}},
			devices: []wg.Device{{Name: "wg0", Mark: mark.Value}, {Name: "wg1", Mark: mark.Value}}, mark: next, want: []string{"wg0", "wg1"},
		},
		"it is another uplink's from now on": {
			config:  config.Config{Problems: refused, Intents: []fwmark.Intent{{Uplink: "up1", Mark: other, Devices: []string{"wg0"}}}},
			devices: []wg.Device{{Name: "wg0", Mark: mark.Value}}, mark: mark,
		},
		"without an error it is nobody's": {
			config: config.Config{Intents: []fwmark.Intent{{Uplink: "up2", Mark: mark}}}, devices: []wg.Device{{Name: "wg0", Mark: mark.Value}}, mark: mark,
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := Observation{Config: c.config, Facts: leadingTo("up2", mark), Devices: Devices{Found: c.devices}}
			d := Decide(o, Memory{})
			news := d.News(func(string) state.Told { return state.Told{} })
			i := slices.IndexFunc(news, func(n News) bool { return n.Uplink == "up2" })
			if i < 0 {
				t.Fatalf("there is no news of up2: %+v", news)
			}
			if !slices.Equal(news[i].Devices, c.want) || news[i].Mark != c.mark {
				t.Errorf("hooks are told of %q and mark %s, want %q and %s", news[i].Devices, news[i].Mark, c.want, c.mark)
			}
			var rotate []string
			for _, p := range d.Pins {
				rotate = append(rotate, p.RotatePort...)
			}
			if slices.Contains(rotate, "wg0") != c.rotate {
				t.Errorf("ports of %q are chosen anew", rotate)
			}
			o.Facts.Addrs[0].Prefix = netip.MustParsePrefix("198.51.100.77/24")
			d = Decide(o, Memory{})
			d = d.after(d.Steps(ForgetFresh))
			if due := d.DueBy(d.Steps(Open)); !slices.Equal(due, c.want) {
				t.Errorf("%q are due once the address has changed, want %q", due, c.want)
			}
		})
	}
}

// TestAnErrorKeepsFullTunnels: a full tunnel that was listed keeps its own mark while the
// configuration has an error.
func TestAnErrorKeepsFullTunnels(t *testing.T) {
	mark := fwmark.Mark{Value: 0x2005, Mask: fwmark.FullMask}
	full := fwmark.Mark{Value: 0xca6c, Mask: fwmark.FullMask}
	valid := config.Config{Priority: policy.DefaultPriority, Intents: []fwmark.Intent{{Uplink: "up2", Mark: mark, Devices: []string{"wg0"}}}}
	o := Observation{Config: valid, Facts: leadingTo("up2", mark), Devices: Devices{Found: []wg.Device{{Name: "wg0", Mark: full.Value}}}}
	o.Facts.Links = append(o.Facts.Links, policy.Link{Name: "wg0", Up: true, WireGuard: true, Kind: "wireguard"})
	o.Facts.Rules = append(o.Facts.Rules, policy.Rule{Priority: 32700, Action: policy.Lookup, Invert: true, Mark: full, Table: full.Value})
	o.Facts.Routes = append(o.Facts.Routes, policy.Route{Table: full.Value, Type: policy.Unicast, Dst: netip.MustParsePrefix("0.0.0.0/0"), Device: "wg0"})
	o = wentThrough(Decide(o, Memory{})).Observation
	if o.Devices.Found[0].Mark != full.Value {
		t.Fatalf("without an error it has mark %#x", o.Devices.Found[0].Mark)
	}
	for name, intents := range map[string][]fwmark.Intent{
		"its uplink's mark was refused":           {{Uplink: "up2", Devices: []string{"wg0"}}},
		"and its last one is another uplink's":    {{Uplink: "up1", Mark: mark}, {Uplink: "up2", Devices: []string{"wg0"}}},
		"its uplink's stanza cannot be read":      nil,
		"nor that, and another uplink's is there": {{Uplink: "up1", Mark: mark}},
	} {
		t.Run(name, func(t *testing.T) {
			o := o
			o.Before = &valid
			o.Config = config.Config{Priority: policy.DefaultPriority, Problems: []fwmark.Problem{{Text: "a mark was refused"}}, Intents: intents}
			d := wentThrough(Decide(o, Memory{}))
			if got := d.Devices.Found[0].Mark; got != full.Value {
				t.Errorf("it gets mark %#x", got)
			}
			i := slices.IndexFunc(d.Pins, func(p fwmark.Pin) bool { return slices.Contains(p.Devices, "wg0") })
			if i < 0 || d.Pins[i].Mark != full || d.Pins[i].Uplink != "up2" {
				t.Errorf("pins: %+v", d.Pins)
			}
		})
	}
}

// upstream is the gateway of up2.
var upstream = netip.MustParseAddr("198.51.100.1")

// leadingTo are the facts of a host where a mark stands, whole, and leads to an
// uplink.
func leadingTo(uplink string, mark fwmark.Mark) policy.Facts {
	return wentThrough(Decide(Observation{
		Config: config.Config{Priority: policy.DefaultPriority, Intents: []fwmark.Intent{{Uplink: uplink, Mark: mark}}},
		Facts: policy.Facts{
			Families: [2]bool{true, false},
			Links:    []policy.Link{{Name: "up1", Up: true}, {Name: uplink, Up: true}},
			Addrs:    []policy.Address{{Device: uplink, Prefix: netip.MustParsePrefix("198.51.100.10/24"), Global: true}},
			Routes:   []policy.Route{{Table: policy.TableMain, Type: policy.Unicast, Dst: netip.MustParsePrefix("0.0.0.0/0"), Gateway: upstream, Device: uplink}},
		},
	}, Memory{})).Facts
}
