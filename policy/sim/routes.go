package sim

import (
	"slices"
	"syscall"

	"wg-multihome/fwmark"
	"wg-multihome/policy"
)

// ReplaceRoute is RTM_NEWROUTE with NLM_F_CREATE|NLM_F_REPLACE: the first
// route of that table, destination and metric is replaced, whatever its
// protocol. Where an IPv4 route like it stands second, it is EEXIST.
func (k *Kernel) ReplaceRoute(r policy.Route) syscall.Errno {
	if errno := k.check(r); errno != Done {
		return errno
	}
	first := slices.IndexFunc(k.routes, func(o policy.Route) bool { return sameSlot(o, r) })
	switch same := slices.Index(k.routes, r); {
	case first < 0:
		k.routes = append(k.routes, r)
	case r.Family == fwmark.IPv4 && same > first:
		return syscall.EEXIST
	default:
		k.routes[first] = r
	}
	return Done
}

// AppendRoute is RTM_NEWROUTE with NLM_F_CREATE|NLM_F_APPEND, as others use
// it. It is for IPv4: IPv6 would make a multipath route of the two.
func (k *Kernel) AppendRoute(r policy.Route) syscall.Errno {
	if errno := k.check(r); errno != Done {
		return errno
	}
	if slices.Contains(k.routes, r) {
		return syscall.EEXIST
	}
	k.routes = append(k.routes, r)
	return Done
}

// check is what the kernel wants to see before it takes a route.
func (k *Kernel) check(r policy.Route) syscall.Errno {
	if r.Type != policy.Unicast {
		return Done
	}
	i := slices.IndexFunc(k.Links, func(l policy.Link) bool { return l.Name == r.Device })
	switch {
	case i < 0:
		return syscall.ENODEV
	case !k.Links[i].Up:
		return syscall.ENETDOWN
	case r.Src.IsValid() && !slices.ContainsFunc(k.Addrs, func(a policy.Address) bool {
		return a.Prefix.Addr() == r.Src && !a.Unready
	}):
		return syscall.EINVAL
	case r.Gateway.IsValid() && !r.OnLink && !k.covered(r):
		if r.Family == fwmark.IPv6 {
			return syscall.EHOSTUNREACH
		}
		return syscall.ENETUNREACH
	}
	return Done
}

// covered reports whether a gateway can be reached on its link. The real
// kernel asks its rules, foreign ones too; here main alone decides.
func (k *Kernel) covered(r policy.Route) bool {
	if r.Gateway.IsLinkLocalUnicast() {
		return true
	}
	return slices.ContainsFunc(k.routes, func(o policy.Route) bool {
		return o.Table == policy.TableMain && o.Type == policy.Unicast && o.Device == r.Device && !o.Gateway.IsValid() && o.Dst.Contains(r.Gateway)
	})
}

func sameSlot(a, b policy.Route) bool {
	return a.Family == b.Family && a.Table == b.Table && a.Dst == b.Dst && a.Metric == b.Metric
}

// DeleteRoute is RTM_DELROUTE: the first route that r describes goes. As with
// rules, what r does not have is a wildcard, a metric of 0 too. IPv6 looks
// neither at the type nor at the source, nor at sizes of packets.
func (k *Kernel) DeleteRoute(r policy.Route) syscall.Errno {
	if r.Device != "" && !slices.ContainsFunc(k.Links, func(l policy.Link) bool { return l.Name == r.Device }) {
		return syscall.ENODEV
	}
	best := -1
	for i, o := range k.routes {
		if describesRoute(r, o) && (best < 0 || o.Metric < k.routes[best].Metric) {
			best = i
		}
	}
	if best < 0 {
		return syscall.ESRCH
	}
	k.routes = slices.Delete(k.routes, best, best+1)
	return Done
}

func describesRoute(r, o policy.Route) bool {
	switch {
	case o.Family != r.Family, o.Table != r.Table, o.Dst != r.Dst,
		r.Metric != 0 && o.Metric != r.Metric,
		r.Protocol != 0 && o.Protocol != r.Protocol,
		r.Device != "" && o.Device != r.Device,
		r.Gateway.IsValid() && o.Gateway != r.Gateway:
		return false
	}
	return r.Family == fwmark.IPv6 || (r.Type == 0 || o.Type == r.Type) && (!r.Src.IsValid() || o.Src == r.Src) &&
		(r.MTU == 0 || o.MTU == r.MTU) && (r.AdvMSS == 0 || o.AdvMSS == r.AdvMSS)
}
