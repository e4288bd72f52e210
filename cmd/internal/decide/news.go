package decide

import (
	"net/netip"

	"wg-multihome/cmd/internal/state"
	"wg-multihome/fwmark"
	"wg-multihome/policy"
)

// News is what hooks are to be told of an uplink in one family.
type News struct {
	Uplink  string
	Family  fwmark.Family
	Event   string // up, change or renew
	Old     netip.Addr
	Now     state.ToldFamily
	Table   uint32      // 0: the address has none, as no gateway is known
	Mark    fwmark.Mark // zero: none
	Devices []string    // WireGuard devices that are pinned to the uplink
}

// The events: an address where none was told before; an address or a gateway
// that is new; a BOUND or REBOOT that brought nothing new.
const (
	eventUp     = "up"
	eventChange = "change"
	eventRenew  = "renew"
)

// News compares what there is with what was told last. An uplink that is down
// has nothing to tell, and neither has a family without an address: what was
// told stays, for the next address to be compared with.
func (d Decision) News(told func(uplink string) state.Told) []News {
	var list []News
	for _, u := range d.Uplinks {
		if !u.Up {
			continue
		}
		before := told(u.Name)
		for _, f := range fwmark.Families {
			now := d.tellable(u, f)
			if !now.Address.IsValid() {
				continue
			}
			last, known := before.Families[f.String()]
			event := compare(last, now, known)
			if event == "" {
				continue
			}
			n := News{Uplink: u.Name, Family: f, Event: event, Old: last.Address, Now: now}
			if u.Routed(f) {
				n.Table = policy.MarkTable(u, f)
			}
			n.Mark, n.Devices = d.PinOf(u.Name)
			list = append(list, n)
		}
	}
	return list
}

// tellable is what is told of an uplink now.
func (d Decision) tellable(u fwmark.Uplink, f fwmark.Family) state.ToldFamily {
	now := state.ToldFamily{Address: u.Address[f], Gateway: u.Gateways[f]}
	if r := d.Records[u.Name]; r.Address.Addr() == now.Address {
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

// After returns what will have been told of the uplink once n is.
func (n News) After(told state.Told) state.Told {
	families := map[string]state.ToldFamily{n.Family.String(): n.Now}
	for f, old := range told.Families {
		if f != n.Family.String() {
			families[f] = old
		}
	}
	return state.Told{Families: families}
}
