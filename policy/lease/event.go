package lease

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"wg-multihome/fwmark"
)

// Kind says what a lease event asks for.
type Kind int

const (
	// Nothing events change nothing.
	Nothing Kind = iota
	// Leased events bring an IPv4 lease: its address or gateway may be new.
	Leased
	// Lost events end the IPv4 lease, if there was one.
	Lost
	// Look events say that something has changed which the kernel shows: nothing
	// is recorded. All of IPv6 is so, as its gateway is in router advertisements,
	// and main has it.
	Look
)

// String returns the kind as a word for messages.
func (k Kind) String() string {
	return [...]string{"nothing", "leased", "lost", "look"}[k]
}

// Event is what a DHCP client said. One that asks for Nothing has its Reason
// alone; the fields from Address on are a lease's.
type Event struct {
	Kind      Kind
	Reason    string        // the client's word; where Nothing is asked for it is unchecked, but short
	Interface string        // passes fwmark.ValidName
	Family    fwmark.Family // of the addresses that it is about; IPv4 where it is about the link

	// IfGone says that the client's word does not tell for which family a lease is
	// lost: it ends the lease only where its address is gone.
	IfGone bool

	Address netip.Prefix // IPv4, host bits kept; /32 where the lease has no mask
	Gateway netip.Addr   // IPv4; invalid: none; unspecified: the link has none, its default has no `via`
	LeftOut error        // routers that no router can be; nil: none. The lease counts without them
	Fresh   bool         // a new lease, or the first after a start: told even when nothing is new
}

// ErrUsage says that no DHCP client has called: nothing can be known of what it
// did.
var ErrUsage = errors.New("not called by a DHCP client's hook")

// environment returns a variable's value. One that is set but empty counts as
// not set, as it does to the clients' own scripts.
type environment func(name string) string

// clients are those whose environment can be read.
var clients = map[string]func(action string, get environment) (Event, error){
	"dhclient": fromDhclient,
	"dhcpcd":   fromDhcpcd,
	"udhcpc":   fromUdhcpc,
}

// Clients returns the names that Parse knows.
func Clients() []string { return []string{"dhclient", "dhcpcd", "udhcpc"} }

// Parse reads the event from a client's environment, and its argument where it
// has one. client is one of Clients. lookup is os.LookupEnv or the like.
//
// An error that is ErrUsage says that this is no event at all. Every other error
// is that of one variable, or says that another client's environment came, and
// the event may not be recorded; but the client did something to the kernel.
func Parse(client, action string, lookup func(string) (string, bool)) (Event, error) {
	parse := clients[client]
	if parse == nil {
		return Event{}, fmt.Errorf("%w: DHCP client %s is not known (%s are)", ErrUsage, quote(client), strings.Join(Clients(), ", "))
	}
	return parse(action, func(name string) string {
		value, _ := lookup(name)
		return value
	})
}

// reasonOf returns what dhclient and dhcpcd say by a variable, and not by an
// argument.
func reasonOf(client, action string, get environment) (string, error) {
	switch reason := get("reason"); {
	case action != "":
		return "", fmt.Errorf("%w: %s has no argument such as %s, udhcpc has", ErrUsage, client, quote(action))
	case reason == "":
		return "", fmt.Errorf("%w: reason is not set", ErrUsage)
	default:
		return reason, nil
	}
}

// event returns an event that is about an interface.
func event(kind Kind, reason string, family fwmark.Family, get environment) (Event, error) {
	e := Event{Kind: kind, Reason: clip(reason), Interface: get("interface"), Family: family}
	if err := fwmark.ValidName(e.Interface); err != nil {
		return Event{}, fmt.Errorf("interface=%s %w", quote(e.Interface), err)
	}
	return e, nil
}

// nothing returns an event that changes nothing: all but its reason is left
// unread.
func nothing(reason string) (Event, error) { return Event{Reason: clip(reason)}, nil }

// words are the names that a client has for the parts of a lease, and how it
// writes routes.
type words struct {
	address, mask, routers string

	// routes are options that take the place of the routers; the first that is set
	// counts.
	routes      []string
	parseRoutes func(string, *routers) error
}

// leased returns the event of a lease.
func leased(reason string, fresh bool, get environment, w words) (Event, error) {
	e, err := event(Leased, reason, fwmark.IPv4, get)
	if err != nil {
		return Event{}, err
	}
	e.Fresh = fresh
	addr, err := variable(w.address, get, parseHost)
	if err != nil {
		return Event{}, err
	}
	bits, err := variable(w.mask, get, parseMask)
	if err != nil {
		return Event{}, err
	}
	e.Address = netip.PrefixFrom(addr, bits)

	// RFC 3442: a client that gets option 121 MUST ignore the router option, and
	// all of these do, also when 121 brings no default.
	source, parse := w.routers, parseRouters
	for _, name := range w.routes {
		if get(name) != "" {
			source, parse = name, w.parseRoutes
			break
		}
	}
	routers := routers{leased: addr}
	if _, err = variable(source, get, func(s string) (struct{}, error) { return struct{}{}, parse(s, &routers) }); err != nil {
		return Event{}, err
	}
	e.Gateway = routers.gateway
	if len(routers.bad) > 0 {
		e.LeftOut = fmt.Errorf("%s=%s has %s", source, quote(get(source)), strings.Join(routers.bad, ", "))
	}
	return e, nil
}

// variable parses one variable, and names it and its value where it is refused.
func variable[T any](name string, get environment, parse func(string) (T, error)) (T, error) {
	value := get(name)
	parsed, err := parse(value)
	if err != nil {
		err = fmt.Errorf("%s=%s %w", name, quote(value), err)
	}
	return parsed, err
}
