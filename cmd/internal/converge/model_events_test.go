package converge

import (
	"maps"
	"net/netip"
	"slices"

	"pgregory.net/rapid"

	"wg-multihome/cmd/internal/state"
	"wg-multihome/fwmark"
	"wg-multihome/nft"
	"wg-multihome/policy"
)

// networks are those of wans. The last one has no IPv6.
var networks = [][]netip.Prefix{
	{netip.MustParsePrefix("192.0.2.10/24"), netip.MustParsePrefix("2001:db8:1::10/64")},
	{netip.MustParsePrefix("198.51.100.10/24"), netip.MustParsePrefix("2001:db8:2::10/64")},
	{netip.MustParsePrefix("203.0.113.10/24")},
}

var routers = [2]netip.Addr{fwmark.IPv6: netip.MustParseAddr("fe80::1")}

func (h *simulated) addDevice(name string, mark uint32) {
	h.kernel.Links = append(h.kernel.Links, policy.Link{Name: name, Up: true, PointToPoint: true, WireGuard: true, Kind: "wireguard"})
	h.devices[name] = mark
}

// addWAN adds an uplink. The last one is configured by hand: it has neither a
// lease nor a default in main.
func (h *simulated) addWAN(i int) {
	h.kernel.Links = append(h.kernel.Links, policy.Link{Name: wans[i], Up: true})
	for _, p := range networks[i] {
		h.addAddress(i, p)
	}
	if i < 2 {
		h.leases[wans[i]] = state.Record{Address: networks[i][0], Gateway: gateways[i]}
		h.addDefaults(i)
	}
}

func (h *simulated) addAddress(i int, p netip.Prefix) {
	h.kernel.Addrs = append(h.kernel.Addrs, policy.Address{Device: wans[i], Prefix: p, Global: true})
	h.addConnected(i, p)
}

func (h *simulated) addConnected(i int, p netip.Prefix) {
	f := fwmark.FamilyOf(p.Addr())
	h.kernel.ReplaceRoute(policy.Route{Family: f, Table: policy.TableMain, Dst: p.Masked(), Type: policy.Unicast, Device: wans[i], Protocol: 2, Metric: metricOf(f, 0)})
}

func (h *simulated) addDefaults(i int) {
	for _, p := range networks[i] {
		f := fwmark.FamilyOf(p.Addr())
		gateway := gateways[i]
		if f == fwmark.IPv6 {
			gateway = routers[f]
		}
		h.kernel.ReplaceRoute(policy.Route{
			Family: f, Table: policy.TableMain, Dst: netip.PrefixFrom(f.Unspecified(), 0), Type: policy.Unicast,
			Gateway: gateway, Device: wans[i], Protocol: 16, Metric: metricOf(f, uint32(100*(i+1))),
		})
	}
}

func metricOf(f fwmark.Family, metric uint32) uint32 {
	if f == fwmark.IPv6 {
		metric += 1024
	}
	return metric
}

// hostEvents are what may happen to a host between two runs. Some report that
// nothing did.
var hostEvents = map[string]func(*history, *rapid.T){
	"link down or up":      (*history).toggleLink,
	"address gone or back": (*history).toggleAddress,
	"default gone or back": (*history).toggleDefault,
	"rules flushed":        (*history).flushRules,
	"table flushed":        (*history).flushTable,
	"device made anew":     (*history).remakeDevice,
	"device set up anew":   (*history).setDevice,
	"cgroup made anew":     (*history).remakeCgroup,
	"run":                  (*history).toggleRun,
	"unit with NFTSet":     (*history).toggleUnit,
	"wg-quick":             (*history).toggleFull,
	"programs detached":    (*history).detach,
	"exclusive program":    (*history).toggleExclusive,
	"connections end":      func(h *history, _ *rapid.T) { clear(h.host.flows) },
}

var hostEventNames = append(slices.Sorted(maps.Keys(hostEvents)), "rules flushed", "table flushed")

func (h *history) toggleLink(t *rapid.T) {
	i := draw(t, 0, len(wans)-1)
	k := h.host.kernel
	for _, l := range k.Links {
		if l.Name == wans[i] && l.Up {
			k.LinkDown(l.Name)
			return
		}
	}
	k.LinkUp(wans[i])
	for _, a := range k.Addrs {
		if a.Device == wans[i] {
			h.host.addConnected(i, a.Prefix)
		}
	}
	if i < 2 {
		h.host.addDefaults(i)
	}
}

func (h *history) toggleAddress(t *rapid.T) {
	i := draw(t, 0, len(wans)-1)
	p := anyOf(t, networks[i])
	other := draw(t, 0, 1) == 1
	for _, a := range h.host.kernel.Addrs {
		if a.Device == wans[i] && a.Prefix.Masked() == p.Masked() {
			h.host.kernel.RemoveAddress(a.Device, a.Prefix.Addr())
			if !other {
				return
			}
			if p = a.Prefix; p.Addr() == networks[i][0].Addr() {
				p = netip.PrefixFrom(p.Addr().Next(), p.Bits())
			}
		}
	}
	h.host.addAddress(i, p)
	if h.host.up(wans[i]) && i < 2 {
		h.host.addDefaults(i)
	}
	if record, leased := h.host.leases[wans[i]]; leased && p.Addr().Is4() {
		record.Address = p
		h.host.leases = maps.Clone(h.host.leases)
		h.host.leases[wans[i]] = record
	}
}

func (h *simulated) up(link string) bool {
	return slices.ContainsFunc(h.kernel.Links, func(l policy.Link) bool { return l.Name == link && l.Up })
}

// toggleDefault takes an uplink's defaults from main, or brings them back.
func (h *history) toggleDefault(t *rapid.T) {
	i := draw(t, 0, len(wans)-1)
	gone := false
	for _, r := range h.host.kernel.Routes() {
		if r.Table == policy.TableMain && r.Dst.Bits() == 0 && r.Device == wans[i] {
			h.host.kernel.DeleteRoute(r)
			gone = true
		}
	}
	if gone || !h.host.up(wans[i]) {
		return
	}
	h.host.addDefaults(i)
}

// flushRules takes our rules away: the table holds alone until the next run has
// come to its end. Where the table was flushed since the last one that did,
// nothing would.
func (h *history) flushRules(*rapid.T) {
	if !h.placed.table {
		return
	}
	h.placed.rules = false
	for _, f := range fwmark.Families {
		for _, r := range h.host.kernel.Rules(f) {
			if r.Ours() {
				h.host.kernel.DeleteRule(r)
			}
		}
	}
}

// flushTable takes the table away. Connections keep their marks, and nothing
// gives their packets any.
func (h *history) flushTable(*rapid.T) {
	if !h.placed.rules || h.host.lacks {
		return
	}
	h.placed.table = false
	h.host.setTable(nft.Ruleset{})
	for name := range h.host.cgroups {
		h.fresh[thing{kind: aService, name: name}] = true
		if _, unit := valueOf(name); unit { // systemd alone can give it back
			delete(h.host.cgroups, name)
		}
	}
	for _, f := range slices.Collect(maps.Keys(h.host.flows)) {
		delete(h.host.flows, f)
		f.flushed = true
		h.host.flows[f] = true
	}
}

// remakeDevice takes a device away, or brings it back without a mark.
func (h *history) remakeDevice(t *rapid.T) {
	name := anyOf(t, wireguards)
	if _, there := h.host.devices[name]; there {
		h.quickDown(name)
		delete(h.host.devices, name)
		h.host.kernel.Links = slices.DeleteFunc(h.host.kernel.Links, func(l policy.Link) bool { return l.Name == name })
		return
	}
	h.host.addDevice(name, 0)
	h.fresh[thing{kind: aDevice, name: name}] = true
}

// setDevice gives a device another mark, or none, as `wg set` and `wg setconf`
// do.
func (h *history) setDevice(t *rapid.T) {
	name := anyOf(t, wireguards)
	if _, there := h.host.devices[name]; !there {
		return
	}
	h.host.devices[name] = 0
	if draw(t, 0, 1) == 1 {
		h.host.devices[name] = anyOf(t, numbers)
	}
	h.fresh[thing{kind: aDevice, name: name}] = true
}

// remakeCgroup restarts a service: its cgroup goes, and comes back as another
// one.
func (h *history) remakeCgroup(t *rapid.T) {
	name := anyOf(t, services)
	if _, there := h.host.cgroups[name]; there {
		delete(h.host.cgroups, name)
		h.host.dropSockets(name)
		return
	}
	h.host.makeCgroup(name)
	h.fresh[thing{kind: aService, name: name}] = true
}
