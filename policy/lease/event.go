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
	// Ignored events change nothing.
	Ignored Kind = iota
	// Bound events bring a lease: its address or gateway may be new.
	Bound
	// Dropped events end the lease, if there was one.
	Dropped
)

// String returns the kind as a word for messages.
func (k Kind) String() string {
	switch k {
	case Bound:
		return "bound"
	case Dropped:
		return "dropped"
	}
	return "ignored"
}

// Event is what a DHCP client said. An Ignored one has its Reason alone, a
// Dropped one Reason and Interface.
type Event struct {
	Kind      Kind
	Reason    string // the client's word; of an Ignored event it is unchecked, but short
	Interface string // passes fwmark.ValidName

	Address netip.Prefix // IPv4, host bits kept; /32 where the lease has no mask
	Gateway netip.Addr   // IPv4; invalid: none; unspecified: the link has none, its default has no `via`
	LeftOut error        // routers that no router can be; nil: none. The lease counts without them
	Fresh   bool         // a new lease (BOUND) or the first after a start (REBOOT): told even when nothing is new
}

// reasons are those of dhclient-script(8) that mean something here. PREINIT,
// MEDIUM, ARPCHECK and ARPSEND are left out, as is what later versions add:
// all of those are Ignored.
//
// RENEW and REBIND are here because they can bring a new router, TIMEOUT
// because it brings a recorded lease. EXPIRE and its like may carry no address
// at all (FAIL never does), so they end whatever lease the interface had.
var reasons = map[string]struct {
	kind  Kind
	fresh bool
}{
	"BOUND":   {Bound, true},
	"REBOOT":  {Bound, true},
	"TIMEOUT": {Bound, false},
	"RENEW":   {Bound, false},
	"REBIND":  {Bound, false},
	"EXPIRE":  {Dropped, false},
	"FAIL":    {Dropped, false},
	"RELEASE": {Dropped, false},
	"STOP":    {Dropped, false},
	"NBI":     {Dropped, false},
}

// ErrUnknownClient says that nobody knows how to read a client's environment.
var ErrUnknownClient = errors.New("DHCP client is not known")

// ErrNoReason says that the environment is not one that a DHCP client made.
var ErrNoReason = errors.New("reason is not set: a DHCP client's hook is to call this")

// Parse reads the event from a client's environment. client is its name,
// "dhclient" so far. lookup is os.LookupEnv or the like; a variable that is
// set but empty counts as not set, as it does to dhclient-script.
//
// An Ignored event is never an error: nothing but `reason` is looked at. Every
// other error is that of one variable, and the event may not be recorded.
func Parse(client string, lookup func(string) (string, bool)) (Event, error) {
	if client != "dhclient" {
		return Event{}, fmt.Errorf("%w: %s (dhclient is)", ErrUnknownClient, quote(client))
	}
	get := func(name string) string {
		value, _ := lookup(name)
		return value
	}
	reason := get("reason")
	if reason == "" {
		return Event{}, ErrNoReason
	}
	meaning, known := reasons[reason]
	if !known {
		return Event{Reason: clip(reason)}, nil
	}
	e := Event{Kind: meaning.kind, Reason: reason, Interface: get("interface"), Fresh: meaning.fresh}
	if err := fwmark.ValidName(e.Interface); err != nil {
		return Event{}, fmt.Errorf("interface=%s %w", quote(e.Interface), err)
	}
	if e.Kind == Bound {
		if err := e.readLease(get); err != nil {
			return Event{}, err
		}
	}
	return e, nil
}

func (e *Event) readLease(get func(string) string) error {
	addr, err := variable("new_ip_address", get, parseHost)
	if err != nil {
		return err
	}
	bits, err := variable("new_subnet_mask", get, parseMask)
	if err != nil {
		return err
	}
	e.Address = netip.PrefixFrom(addr, bits)

	// RFC 3442: a client that gets option 121 MUST ignore the router option,
	// and dhclient-script does, also when 121 brings no default.
	source, parse := "new_routers", parseRouters
	if get("new_rfc3442_classless_static_routes") != "" {
		source, parse = "new_rfc3442_classless_static_routes", parseOption121
	}
	routers := routers{leased: addr}
	if _, err = variable(source, get, func(s string) (struct{}, error) { return struct{}{}, parse(s, &routers) }); err != nil {
		return err
	}
	e.Gateway = routers.gateway
	if len(routers.bad) > 0 {
		e.LeftOut = fmt.Errorf("%s=%s has %s", source, quote(get(source)), strings.Join(routers.bad, ", "))
	}
	return nil
}

// variable parses one variable, and names it and its value where it is refused.
func variable[T any](name string, get func(string) string, parse func(string) (T, error)) (T, error) {
	value := get(name)
	parsed, err := parse(value)
	if err != nil {
		err = fmt.Errorf("%s=%s %w", name, quote(value), err)
	}
	return parsed, err
}

// Bounds on what is shown of a value, and of a word in a list, in bytes: an
// environment variable can be 128 KiB long.
const (
	clipValue = 120
	clipWord  = 32
)

func clip(s string) string { return s[:min(len(s), clipValue)] }

func quote(s string) string { return quoteAt(s, clipValue) }

func quoteWord(s string) string { return quoteAt(s, clipWord) }

// quoteAt shows a value on one line, and says where it was cut.
func quoteAt(s string, limit int) string {
	if len(s) > limit {
		return fmt.Sprintf("%q... (%d bytes)", s[:limit], len(s))
	}
	return fmt.Sprintf("%q", s)
}
