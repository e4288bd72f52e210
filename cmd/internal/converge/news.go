package converge

import (
	"net/netip"
	"slices"
	"time"

	"wg-multihome/cmd/internal/state"
	"wg-multihome/fwmark"
	"wg-multihome/policy"
)

// News is what hooks are to be told of an uplink in one family.
type News struct {
	Uplink string
	Family fwmark.Family
	Event  string // up, change or renew
	Old    netip.Addr
	Now    state.ToldFamily
	Table  uint32      // 0: the address has none, as no gateway is known
	Mark   fwmark.Mark // zero: none
	Tunnel []string    // WireGuard devices of the uplink
}

// The events: an address where none was told before; an address or a gateway
// that is new; a BOUND or REBOOT that brought nothing new.
const (
	eventUp     = "up"
	eventChange = "change"
	eventRenew  = "renew"
)

// news compares what there is with what was told last. An uplink that is down
// has nothing to tell, and neither has a family without an address: what was
// told stays, for the next address to be compared with.
func (v View) news(told func(uplink string) state.Told) []News {
	var list []News
	for _, u := range v.Uplinks {
		if !u.Up {
			continue
		}
		before := told(u.Name)
		for _, f := range fwmark.Families {
			now := v.tellable(u, f)
			if !now.Address.IsValid() {
				continue
			}
			last, known := before.Families[f.String()]
			event := compare(last, now, known)
			if event == "" {
				continue
			}
			n := News{Uplink: u.Name, Family: f, Event: event, Old: last.Address, Now: now}
			if u.Routable(f) {
				n.Table = policy.TableOf(now.Address)
			}
			n.Mark, n.Tunnel = v.pinned(u.Name)
			list = append(list, n)
		}
	}
	return list
}

// tellable is what is told of an uplink now.
func (v View) tellable(u fwmark.Uplink, f fwmark.Family) state.ToldFamily {
	now := state.ToldFamily{Address: u.Address[f], Gateway: u.Gateways[f]}
	if r := v.Records[u.Name]; r.Address.Addr() == now.Address {
		now.Bound = r.Bound
	}
	// A gateway of the other family (RTA_VIA) is not one of this lease's kind.
	if now.Gateway.IsValid() && fwmark.FamilyOf(now.Gateway) != f {
		now.Gateway = netip.Addr{}
	}
	return now
}

func compare(last, now state.ToldFamily, known bool) string {
	switch {
	case !known:
		return eventUp
	case last.Address != now.Address || last.Gateway != now.Gateway:
		return eventChange
	case !now.Bound.IsZero() && !last.Bound.Equal(now.Bound):
		return eventRenew
	}
	return ""
}

func (v View) pinned(uplink string) (mark fwmark.Mark, devices []string) {
	for _, p := range v.Pins {
		if p.Uplink == uplink {
			if !p.Full {
				mark = p.Mark
			}
			devices = append(devices, p.Devices...)
		}
	}
	slices.Sort(devices)
	return mark, devices
}

// environment is what hooks get beside a PATH: the original script's three
// variables, and ours.
func (n News) environment() []string {
	value := func(a netip.Addr) string {
		if !a.IsValid() || a.IsUnspecified() {
			return ""
		}
		return a.String()
	}
	mark, table := "", ""
	if !n.Mark.IsZero() {
		mark = n.Mark.String()
	}
	if n.Table != 0 {
		table = formatUint(n.Table)
	}
	return []string{
		"IFACE=" + n.Uplink,
		"FWMARK=" + mark,
		"TABLE_ID=" + table,
		eventVariable + "=" + n.Event,
		"MULTIHOMED_FAMILY=" + n.Family.String(),
		"MULTIHOMED_OLD_ADDRESS=" + value(n.Old),
		"MULTIHOMED_NEW_ADDRESS=" + value(n.Now.Address),
		"MULTIHOMED_GATEWAY=" + value(n.Now.Gateway),
		"MULTIHOMED_WIREGUARD=" + joinWords(n.Tunnel),
	}
}

// merge returns what will have been told once n is.
func (n News) merge(t state.Told) state.Told {
	families := map[string]state.ToldFamily{n.Family.String(): n.Now}
	for f, old := range t.Families {
		if f != n.Family.String() {
			families[f] = old
		}
	}
	return state.Told{Families: families}
}

// killAfter is how long hooks have to end by themselves once their time is
// over.
const killAfter = 2 * time.Second
