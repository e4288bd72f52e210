package nft

import (
	"math"
	"slices"

	"wg-multihome/fwmark"
)

// answers gives the replies to pinned connections their mark where rp_filter is
// strict, so that with src_valid_mark it looks for the way back as for the way out.
func (w *wanter) answers() {
	var rules []Rule
	for _, p := range w.keeping {
		if w.facts.Strict[p.Uplink] {
			rules = append(rules, Rule{{Kind: CtMark, Mark: p.Mark}, {Kind: Reply}, unmarked(p.Mark), {Kind: SetMetaMark, Mark: p.Mark}})
		}
	}
	if len(rules) > 0 {
		w.chain(answersChain, Base{"filter", "prerouting", priorityMangle}, rules...)
	}
}

// arrivals looks at what comes in for this host. Most of that is of connections
// that run and are not pinned, so it leaves the chain first.
func (w *wanter) arrivals() {
	rules := []Rule{{{Kind: CtMark, Mark: w.bits()}, {Kind: Established}, {Kind: Accept}}}
	rules = append(rules, w.late()...)
	for _, p := range w.keeping {
		rules = append(rules, w.fitting(p, false)...)
	}
	uplinks := w.keepingUplinks()
	for _, u := range uplinks {
		rules = append(rules, Rule{{Kind: InDevice, Name: u}, {Kind: Invalid}, {Kind: TCP}, {Kind: Goto, Name: straysChain}},
			Rule{{Kind: InDevice, Name: u}, {Kind: UDP}, {Kind: Original}, {Kind: Goto, Name: setName(askingPrefix, u)}})
	}
	w.chain(arrivalsChain, Base{"filter", "input", priorityMangle}, rules...)
	if len(uplinks) > 0 {
		w.chain(straysChain, Base{}, Rule{{Kind: HasSocket}, {Kind: Accept}}, Rule{{Kind: Drop}})
	}
}

// straysChain drops segments that no socket takes: one outside of its connection's
// window is not translated back, so this host would answer it with a reset, and end
// a connection that would have outlived it.
const straysChain = "strays"

// keepingUplinks returns the uplinks of marks that connections have, sorted.
func (w *wanter) keepingUplinks() []string {
	var names []string
	for _, p := range w.keeping {
		if p.Uplink != "" {
			names = append(names, p.Uplink)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// fitting has the segments of a pinned connection fit the uplink. Its socket found
// its route, and by it the size of its segments, before it had a mark; where another
// uplink takes larger packets these are lost, and not every router says so.
//
// What leaves says what the host may be sent, and what answers what it may send.
func (w *wanter) fitting(p fwmark.Pin, leaves bool) (rules []Rule) {
	if p.Uplink == "" {
		return nil
	}
	by := Expr{Kind: InDevice, Name: p.Uplink}
	if leaves {
		by.Kind = OutDevice
	}
	for _, f := range fwmark.Families {
		if size := segmentSize(w.uplinks[p.Uplink], f, leaves); size > 0 {
			rules = append(rules, Rule{by, {Kind: CtMark, Mark: p.Mark}, {Kind: OfFamily, Family: f}, {Kind: SYN}, {Kind: SetMSS, Size: size}})
		}
	}
	return rules
}

// headers is what IP's header and TCP's take, bytes (RFC 9293, 3.7.1).
var headers = [2]uint32{fwmark.IPv4: 20 + 20, fwmark.IPv6: 40 + 20}

// segmentSize is that which a socket would have that was routed by the uplink from
// the start; 0: nothing is known of it.
func segmentSize(u fwmark.Uplink, f fwmark.Family, advertised bool) uint16 {
	size := uint32(math.MaxUint32)
	for _, mtu := range []uint32{u.LinkMTU[f], u.MTU[f]} {
		if mtu > headers[f] {
			size = min(size, mtu-headers[f])
		}
	}
	if advertised && u.AdvMSS[f] > 0 {
		size = min(size, u.AdvMSS[f])
	}
	if size > math.MaxUint16 { // nothing is known, or no option says as much
		return 0
	}
	return uint16(size)
}
