package watch

import (
	"strings"

	"wg-multihome/cmd/internal/events"
	"wg-multihome/policy"
)

// object is what a step is about: a rule or a route that comes or goes, a chain or a set
// whatever is in it, a device.
func object(step string) string {
	words := strings.Fields(step)
	switch {
	case len(words) > 3 && words[1] == "nft" && (words[2] == "chain" || words[2] == "set"):
		return strings.Join(words[1:4], " ")
	case len(words) > 2 && (words[1] == "link" || words[1] == "wg" || words[1] == "sysctl"):
		return strings.Join(words[1:3], " ")
	case len(words) > 1 && len(words[0]) == 1:
		return step[2:]
	}
	return step
}

// byOthers reports whether somebody else may have taken what a step puts, by what was
// heard before it was missed. The kernel itself takes a link's group with the link, and
// routes when their link goes down, or with an address: of those it tells nothing, or in
// nobody's name.
func byOthers(h events.Heard, step string) bool {
	if h.Overruns > 0 || len(h.Causes) >= events.MaxCauses { // there may have been more
		return true
	}
	words := strings.Fields(step)
	switch Kind(step) {
	case "route":
		for _, c := range h.Causes {
			if c.Kind == events.Route && c.Port != 0 && (c.Gone || c.Protocol != policy.Protocol) && c.Text == routeText(words) {
				return true
			}
		}
		return false
	case "link":
		for _, c := range h.Causes {
			if c.Kind == events.Link && c.Gone && len(words) > 2 && c.Device == words[2] {
				return false
			}
		}
	}
	return true
}

// routeText is the text of a cause that is about the table of a step's route: "+ route 4
// 51820 default dev wg0".
func routeText(words []string) string {
	if len(words) < 4 {
		return ""
	}
	return "route " + words[2] + " of table " + words[3]
}
