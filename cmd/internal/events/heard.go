package events

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"wg-multihome/cmd/internal/decide"
)

// Kind is what a cause is about.
type Kind uint8

// The kinds of cause.
const (
	Link Kind = iota
	Address
	Route
	Rule
	Nexthop
	Table // our nftables table
	Cgroup
	File
)

var kindNames = [...]string{"link", "address", "route", "rule", "nexthop", "nft", "cgroup", "file"}

// String is the kind's name in messages.
func (k Kind) String() string { return kindNames[k] }

// Cause is one change that was heard of.
type Cause struct {
	Kind     Kind
	Gone     bool   // something was deleted
	Text     string // what: "rule 4 32754 fwmark 0x2005 unreachable"
	Device   string // of Link
	Protocol uint8  // of a rule or a route
	Port     uint32 // the port id of the socket that asked for it, 0: the kernel itself, or not known
	Process  string // whose that is, as far as it was seen; "": not known
}

// Who names the process that asked for a change, "" where nothing is known of it.
func (c Cause) Who() string {
	switch {
	case c.Port >= unnamed, processOf(c.Port) == uint32(os.Getpid()):
		return ""
	case c.Process != "":
		return fmt.Sprintf("%s (process %d)", c.Process, processOf(c.Port))
	case c.Port != 0:
		return fmt.Sprintf("process %d, which is gone", processOf(c.Port))
	}
	return ""
}

// processOf is the process that a port id is made from: the kernel takes the
// caller's own number for its first socket, and libraries put theirs above it, in
// the upper ten bits.
//
// A process's further sockets have numbers that tell nothing, from unnamed on.
func processOf(port uint32) uint32 { return port & (1<<22 - 1) }

const unnamed = 1 << 31

// processName is what /proc has of it, "" where it has nothing.
func processName(port uint32) string {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.FormatUint(uint64(processOf(port)), 10), "comm"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// MaxCauses bounds how many causes are kept by name.
const MaxCauses = 64

// Heard is what was heard since it was asked for last.
type Heard struct {
	Stale    decide.Parts // what is to be read anew
	Causes   []Cause      // the first ones, 64 at most
	Changes  int          // how many there were
	Overruns int          // how often the kernel had to drop messages
	First    time.Time    // when the first one was heard
}

// Any reports whether anything was heard.
func (h Heard) Any() bool { return h.Stale != 0 }

// Has reports whether a cause of a kind is among those that are named.
func (h Heard) Has(k Kind) bool {
	for _, c := range h.Causes {
		if c.Kind == k {
			return true
		}
	}
	return false
}

// Add adds what was heard later.
func (h *Heard) Add(more Heard) {
	if h.First.IsZero() {
		h.First = more.First
	}
	h.Stale |= more.Stale
	h.Changes += more.Changes
	h.Overruns += more.Overruns
	h.Causes = append(h.Causes, more.Causes[:min(len(more.Causes), MaxCauses-len(h.Causes))]...)
}

// stale are the parts of an observation that a change of each kind makes stale.
//
// With the last address of a link its routes go, in all tables, and no message
// tells of them; so they do with a link. A device's mark changes without any, and
// wg-quick changes rules right after it.
var stale = [...]decide.Parts{
	Link:    decide.Interfaces | decide.WireGuard | decide.Routing | decide.Settings,
	Address: decide.Interfaces | decide.Routes,
	Route:   decide.WireGuard | decide.Routes,
	Rule:    decide.WireGuard | decide.Rules,
	Nexthop: decide.Routes,
	Table:   decide.Nftables | decide.Services | decide.Programs | decide.Settings,
	Cgroup:  decide.Services | decide.Programs | decide.Settings,
	File:    decide.Configuration,
}
