package nft

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Filter is what net.ipv4.conf says of an uplink, 0 to 2 (rp_filter) and 0 or
// 1 (src_valid_mark), and of all interfaces. The kernel takes the larger of
// the two each time (ip-sysctl, linux/inetdevice.h).
type Filter struct {
	Device                  string
	RPFilter, AllRPFilter   int
	ValidMark, AllValidMark int
	Ours                    bool // ValidMark was set by us
}

func (f Filter) strict() bool { return max(f.RPFilter, f.AllRPFilter) == 1 }

// Strict returns the devices whose filter drops what comes in by another way than
// an answer would leave by.
func Strict(filters []Filter) map[string]bool {
	strict := map[string]bool{}
	for _, f := range filters {
		if f.strict() {
			strict[f.Device] = true
		}
	}
	return strict
}

// Sysctl is one step: an uplink's src_valid_mark gets a value, 0 or 1.
type Sysctl struct {
	Device string
	Value  int
}

// String returns the step's one text form, "= sysctl
// net.ipv4.conf.enp2s0/5.src_valid_mark 1": sysctl(8) has a slash for the dot
// in a name.
func (s Sysctl) String() string {
	return fmt.Sprintf("= sysctl net.ipv4.conf.%s.src_valid_mark %d", strings.ReplaceAll(s.Device, ".", "/"), s.Value)
}

// Sysctls returns the steps that let answers to masqueraded connections past a
// strict rp_filter: it looks for the way back by main, unless src_valid_mark
// says that the mark counts. Only 0 is ever changed, only where it is needed,
// and only what we changed is put back.
func Sysctls(r Ruleset, filters []Filter) []Sysctl {
	needed := masquerading(r)
	var steps []Sysctl
	for _, f := range filters {
		needs := slices.Contains(needed, f.Device) && f.strict() && f.AllValidMark == 0
		switch {
		case needs && f.ValidMark == 0:
			steps = append(steps, Sysctl{f.Device, 1})
		case !needs && f.ValidMark == 1 && f.Ours:
			steps = append(steps, Sysctl{f.Device, 0})
		}
	}
	slices.SortFunc(steps, func(a, b Sysctl) int { return strings.Compare(a.Device, b.Device) })
	return steps
}

// masquerading returns the devices on which connections are masqueraded, by
// name.
func masquerading(r Ruleset) []string {
	var devices []string
	for _, c := range r.Chains {
		if c.Name != sourcesChain {
			continue
		}
		for _, rule := range c.Rules {
			for _, e := range rule {
				if e.Kind == OutDevice {
					devices = append(devices, e.Name)
				}
			}
		}
	}
	slices.Sort(devices)
	return slices.Compact(devices)
}

// ObsoleteNotes returns the devices that are noted as set by us and are not, and which
// no step sets: others set them back, or the device is gone. A value that such
// a device gets later is not ours to put back.
func ObsoleteNotes(noted map[string]bool, filters []Filter, steps []Sysctl) []string {
	stale := maps.Clone(noted)
	for _, f := range filters {
		if f.ValidMark != 0 {
			delete(stale, f.Device)
		}
	}
	for _, s := range steps {
		delete(stale, s.Device)
	}
	return slices.Sorted(maps.Keys(stale))
}
