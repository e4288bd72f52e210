package lease

import (
	"fmt"

	"wg-multihome/fwmark"
)

// udhcpcWords are the names of busybox's udhcpc. Options 121 and 249 come only
// where it was told to ask for them (-O staticroutes).
var udhcpcWords = words{
	address: "ip", mask: "subnet", routers: "router",
	routes: []string{"staticroutes", "msstaticroutes"}, parseRoutes: parseTextRoutes,
}

// fromUdhcpc reads what busybox's udhcpc and udhcpc6 say to the program that -s
// names: the action is its argument, and the lease is in the environment.
//
// That environment is the starter's too, whole. So nothing but what udhcpc itself
// sets for the action is read, and nothing else can tell that another client has
// called.
func fromUdhcpc(action string, get environment) (Event, error) {
	switch action {
	case "":
		return Event{}, fmt.Errorf("%w: udhcpc's argument (bound, renew, deconfig ...) is missing", ErrUsage)
	case "bound", "renew":
		if isUdhcpc6(get) {
			return event(Look, action, fwmark.IPv6, get)
		}
		return leased(action, action == "bound", get, udhcpcWords)
	case "deconfig":
		// udhcpc6 says the same, word by word: the interface, and no family.
		e, err := event(Lost, action, fwmark.IPv4, get)
		e.IfGone = err == nil
		return e, err
	}
	// nak: deconfig follows. leasefail: nothing was had.
	return nothing(action)
}

// isUdhcpc6 tells udhcpc6's lease from udhcpc's. Each may have inherited what the
// other one sets (`ip` is a word of the kernel's command line, whose rest becomes
// init's environment), but for the server that udhcpc alone names.
func isUdhcpc6(get environment) bool {
	return (get("ipv6") != "" || get("ipv6prefix") != "") && get("serverid") == ""
}
