package policy

import "wg-multihome/fwmark"

// splitDefault notes which of two /1 routes there are. Together they stand for
// a default route: OpenVPN's `redirect-gateway def1` sets them, and they are
// not suppressed by suppress_prefixlength 0.
type splitDefault struct{ low, high bool }

func (s *splitDefault) add(r Route) {
	if r.Dst.Bits() == 1 {
		if r.Dst.Addr().IsUnspecified() {
			s.low = true
		} else {
			s.high = true
		}
	}
}

func (s splitDefault) whole() bool { return s.low && s.high }

// tableDefault says by which routes a table leads everywhere.
type tableDefault struct {
	single bool // one default route
	split  splitDefault
}

// tableDefaults returns how each table that was read leads everywhere. Only
// unicast routes count: an unreachable default loses packets and leaks none.
func tableDefaults(f Facts) map[tableKey]tableDefault {
	m := map[tableKey]tableDefault{}
	for _, r := range f.Routes {
		if r.Type != Unicast || r.Dst.Bits() > 1 {
			continue
		}
		k := tableKey{r.Family, r.Table}
		d := m[k]
		d.single = d.single || r.isDefault()
		d.split.add(r)
		m[k] = d
	}
	return m
}

// defaultDevices returns the devices that a table leads everywhere through: by
// a default route, or by a split one.
func defaultDevices(f Facts, family fwmark.Family, table uint32) map[string]bool {
	devices := map[string]bool{}
	split := map[string]*splitDefault{}
	for _, r := range f.Routes {
		if r.Family != family || r.Table != table || r.Type != Unicast || r.Dst.Bits() > 1 {
			continue
		}
		if split[r.Device] == nil {
			split[r.Device] = &splitDefault{}
		}
		split[r.Device].add(r)
		if r.isDefault() || split[r.Device].whole() {
			devices[r.Device] = true
		}
	}
	return devices
}
