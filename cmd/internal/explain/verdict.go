package explain

import (
	"fmt"

	"wg-multihome/fwmark"
	"wg-multihome/policy"
)

// verdict sums up.
func (w *way) verdict(agrees bool) Verdict {
	v := w.outcome()
	if !agrees {
		return Verdict{
			Outcome: "unknown", Text: fmt.Sprintf("not known: by its rules and routes it %s, and the kernel's look-up says otherwise", v.Text),
			Why: "the kernel goes by what is not known here, or rules changed in between", Mend: "the same command again; if it stays so, please report both lines",
		}
	}
	for _, o := range w.trace.Others {
		if (o.Errno != 0) == (v.Outcome == "refused") && o.Route.Device == v.Device {
			continue
		}
		v.Unless = append(v.Unless, fmt.Sprintf("rule %d takes it, which cannot be judged here: then it %s", o.Rule.Priority, outcomeOf(o)))
		v.Own = v.Own && (w.s.Uplink == "" || o.Errno == 0 && o.Route.Device == v.Device)
	}
	if v.Mend == "" {
		v.Mend = w.s.Mend
	}
	return v
}

func outcomeOf(v policy.Verdict) string {
	if v.Errno != 0 {
		return "is refused"
	}
	return "leaves by " + v.Route.Device
}

func (w *way) outcome() Verdict {
	switch {
	case w.trace.Errno != 0:
		return w.refused()
	case w.lock.dropped:
		return Verdict{Outcome: "dropped", Device: w.device(), Text: "is dropped by the second lock", Why: w.lock.why, Mend: w.lock.mend}
	case w.device() == "lo":
		return Verdict{Outcome: "stays", Device: "lo", Own: true, Text: "stays on this host"}
	}
	v := Verdict{Outcome: "leaves", Device: w.device(), Own: true, Text: "leaves by " + w.device()}
	if w.source != "" {
		v.Text += " with source " + w.source
	}
	if w.trace.OnLink {
		v.Why = fmt.Sprintf("no route leads there by %s: bound to it, the kernel takes %s for a neighbour on the link", w.probe.Device, w.probe.Dst)
	}
	if a, is := w.learned(); is {
		v.Why = fmt.Sprintf("rule %d passes over defaults, and not over a path MTU that a router told: to IPv6 that is a route of its own", a.Rule.Priority)
		v.Mend = "ip -6 route flush cache, each time a router tells it again; `suppress_ifgroup` in that rule for good"
	}
	if w.s.Uplink == "" {
		return v
	}
	want, known := w.belongs()
	switch {
	case !known || v.Device == want:
		if v.Device != w.s.Uplink && known {
			v.Why = "as all that is pinned has it: " + w.probe.Dst.String() + " is not reached by the uplink's default"
		}
	case v.Why != "":
		v.Own = false
	default:
		v.Own = false
		v.Why = fmt.Sprintf("it belongs to uplink %s", w.s.Uplink)
		v.Mend = "wg-multihome sync"
		if why, mend := w.lacks(); why != "" && w.probe.Mark == 0 { // by its address alone: it is not refused
			v.Why, v.Mend = why+", and a source rule refuses nothing", mend
		}
	}
	return v
}

// learned returns the rule that decides, where it would have passed over the default
// whose path MTU was learned.
func (w *way) learned() (policy.Asked, bool) {
	for _, a := range w.trace.Asked {
		if a.Result == policy.Decides && len(a.Undecided) == 0 {
			return a, a.Learned && a.Rule.Suppresses && !a.Rule.Ours()
		}
	}
	return policy.Asked{}, false
}

// belongs returns what packets of the subject's uplink leave by to the destination;
// known is false where the kernel alone has it. "" is refused.
func (w *way) belongs() (device string, known bool) {
	return w.x.Decision.Rules.Leaves(w.s.Uplink, w.probe.Dst)
}

// refused says by what a packet is refused, and what would mend it.
func (w *way) refused() Verdict {
	v := Verdict{Outcome: "refused", Text: fmt.Sprintf("is refused (%s)", w.trace.Errno)}
	decides := w.trace.Verdict.Rule
	switch {
	case decides == (policy.Rule{}):
		v.Why = "no rule leads anywhere"
	case !decides.Ours():
		v.Why = "by " + numbered(decides)
		if by := owner(w.x.Decision, decides); by != "" {
			v.Why += " of " + by
		}
	case w.s.Uplink == "":
		v.Why = "its mark is held, and no uplink has it"
		v.Mend = "give an uplink that mark, or wg-multihome sync to drop it"
	}
	if w.s.Uplink == "" {
		return v
	}
	why, mend := w.lacks()
	if why != "" {
		v.Since = w.x.Last[w.s.Uplink]
	} else if decides.Ours() {
		why, mend = "the uplink is there, and rules or routes of ours are missing", "wg-multihome sync"
	}
	if why != "" {
		v.Why, v.Mend = why, mend
	}
	return v
}

// lacks says why the subject's uplink cannot be left by; "": it can.
func (w *way) lacks() (why, mend string) {
	for _, u := range w.x.Decision.Uplinks {
		if u.Name == w.s.Uplink {
			return lacks(u, w.family())
		}
	}
	return "", ""
}

// lacks says why an uplink cannot be left by in a family; "": it can.
func lacks(u fwmark.Uplink, f fwmark.Family) (why, mend string) {
	switch {
	case !u.Present:
		return fmt.Sprintf("uplink %s is not there", u.Name), "ifup " + u.Name + ", or whatever makes the interface"
	case !u.Up:
		return fmt.Sprintf("uplink %s is down", u.Name), "ip link set " + u.Name + " up, and its DHCP client"
	case !u.Address[f].IsValid():
		return fmt.Sprintf("uplink %s has no IPv%s address: no lease", u.Name, f), "its DHCP client, or an address"
	case !u.Gateways[f].IsValid():
		return fmt.Sprintf("no IPv%s gateway of uplink %s is known", f, u.Name), "`gateway` in the configuration (wg-multihome help configuration)"
	}
	return "", ""
}
