package lease

import (
	"fmt"

	"wg-multihome/fwmark"
)

// dhclientReasons are those of dhclient-script(8) that mean something here.
// PREINIT, PREINIT6, MEDIUM, ARPCHECK and ARPSEND are left out, as is what later
// versions add: all of those ask for nothing.
//
// RENEW and REBIND are here because they can bring a new router, TIMEOUT
// because it brings a recorded lease. EXPIRE and its like may carry no address
// at all (FAIL never does), so they end whatever lease the interface had. One of
// IPv6 never ends an IPv4 lease: `dhclient -6` is a process of its own.
var dhclientReasons = map[string]struct {
	kind   Kind
	family fwmark.Family
	fresh  bool
}{
	"BOUND":   {Leased, fwmark.IPv4, true},
	"REBOOT":  {Leased, fwmark.IPv4, true},
	"TIMEOUT": {Leased, fwmark.IPv4, false},
	"RENEW":   {Leased, fwmark.IPv4, false},
	"REBIND":  {Leased, fwmark.IPv4, false},

	"EXPIRE":  {Lost, fwmark.IPv4, false},
	"FAIL":    {Lost, fwmark.IPv4, false},
	"RELEASE": {Lost, fwmark.IPv4, false},
	"STOP":    {Lost, fwmark.IPv4, false},
	"NBI":     {Lost, fwmark.IPv4, false},

	"BOUND6":   {Look, fwmark.IPv6, false},
	"RENEW6":   {Look, fwmark.IPv6, false},
	"REBIND6":  {Look, fwmark.IPv6, false},
	"DEPREF6":  {Look, fwmark.IPv6, false},
	"EXPIRE6":  {Look, fwmark.IPv6, false},
	"RELEASE6": {Look, fwmark.IPv6, false},
	"STOP6":    {Look, fwmark.IPv6, false},
}

// dhclientWords are the names of ISC dhclient, whose exit hooks dhclient-script
// sources. Option 121 comes by the name that Debian's dhclient.conf gives it.
var dhclientWords = words{
	address: "new_ip_address", mask: "new_subnet_mask", routers: "new_routers",
	routes: []string{"new_rfc3442_classless_static_routes"}, parseRoutes: parseOctetRoutes,
}

// fromDhclient reads what ISC dhclient says. dhcpcd has the same names for an
// address and another one for option 121, which would be missed.
func fromDhclient(action string, get environment) (Event, error) {
	reason, err := reasonOf("dhclient", action, get)
	if err != nil {
		return Event{}, err
	}
	if protocol, up := get("protocol"), get("if_up"); protocol != "" && up != "" {
		return Event{}, fmt.Errorf("protocol=%s and if_up=%s are what dhcpcd says, not dhclient: its hook is to say --client dhcpcd", quote(protocol), quote(up))
	}
	is, known := dhclientReasons[reason]
	switch {
	case !known:
		return nothing(reason)
	case is.kind == Leased:
		return leased(reason, is.fresh, get, dhclientWords)
	}
	return event(is.kind, reason, is.family, get)
}
