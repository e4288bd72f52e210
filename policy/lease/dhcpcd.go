package lease

import (
	"errors"
	"fmt"

	"wg-multihome/fwmark"
)

// dhcpcdWords are the names of dhcpcd. Like dhcpcd itself this takes option 249,
// of Microsoft's, where there is no option 121.
var dhcpcdWords = words{
	address: "new_ip_address", mask: "new_subnet_mask", routers: "new_routers",
	routes: []string{"new_classless_static_routes", "new_ms_classless_static_routes"}, parseRoutes: parseTextRoutes,
}

// fromDhcpcd reads what dhcpcd 9 and 10 say to the files that dhcpcd-run-hooks(8)
// sources. Which reasons there are changes from one version to the next; what
// each of them means for a lease is always in protocol, if_up and if_down
// (make_env in its src/script.c).
func fromDhcpcd(action string, get environment) (Event, error) {
	reason, err := reasonOf("dhcpcd", action, get)
	if err != nil {
		return Event{}, err
	}
	protocol := get("protocol")
	if protocol == "" {
		return Event{}, errors.New("protocol is not set, which dhcpcd always says: another client's hook is to name that one by --client")
	}
	up, err := variable("if_up", get, parseTruth)
	if err != nil {
		return Event{}, err
	}
	down, err := variable("if_down", get, parseTruth)
	if err != nil {
		return Event{}, err
	}
	switch {
	case up && down:
		return Event{}, errors.New("if_up and if_down are both true")
	case reason == "TEST", reason == "DUMP": // asked for by a person, and nothing was done
		return nothing(reason)
	}
	switch protocol {
	case "dhcp":
		return fromDhcpcdLease(reason, up, down, get)
	case "link":
		return fromDhcpcdLink(reason, up, down, get)
	case "ra", "dhcp6", "static6":
		return event(Look, reason, fwmark.IPv6, get)
	}
	// ipv4ll, among others: its address is no lease's, and its end, which comes
	// right after BOUND of a lease, is not the lease's end.
	return nothing(reason)
}

// fromDhcpcdLease reads an event of IPv4: also of a static address (STATIC) and of
// one that DHCP has told more about (INFORM).
func fromDhcpcdLease(reason string, up, down bool, get environment) (Event, error) {
	switch {
	case up:
		return leased(reason, reason == "BOUND" || reason == "REBOOT", get, dhcpcdWords)
	case down:
		return event(Lost, reason, fwmark.IPv4, get)
	case reason == "STOP":
		// From 10.3.0 on it has if_down=false. Where the address has gone, the
		// kernel shows it; the record of one that is gone counts for nothing.
		return event(Look, reason, fwmark.IPv4, get)
	}
	return nothing(reason)
}

// fromDhcpcdLink reads an event of the link: NOCARRIER, and STOPPED where the
// lease was released, end the lease. STOPPED with `persistent` leaves the
// address, and so does the loss of a wireless network while it looks for another
// (NOCARRIER_ROAMING).
func fromDhcpcdLink(reason string, up, down bool, get environment) (Event, error) {
	switch {
	case down:
		return event(Lost, reason, fwmark.IPv4, get)
	case up:
		return event(Look, reason, fwmark.IPv4, get)
	}
	return nothing(reason)
}

func parseTruth(s string) (bool, error) {
	if s != "true" && s != "false" {
		return false, fmt.Errorf("is neither true nor false, which dhcpcd always says")
	}
	return s == "true", nil
}
