// Package doctor finds what else on a host defeats pinning, or will. Each check is a
// pure function of facts that were gathered before.
package doctor

import (
	"fmt"
	"io"
	"net/netip"
	"strings"

	"wg-multihome/cmd/internal/decide"
	"wg-multihome/cmd/internal/screen"
	"wg-multihome/wg"
)

// Severity is how bad a finding is.
type Severity string

// The severities.
const (
	Error   Severity = "error"   // a promise is broken, or will be
	Warning Severity = "warning" // it works by luck
	Note    Severity = "note"
	Unknown Severity = "unknown" // the check could not be made
)

// Finding is what a check has found. Field names are part of the contract of
// `doctor --json`.
type Finding struct {
	Code     string   `json:"code"` // stable: WGM016
	Severity Severity `json:"severity"`
	What     string   `json:"what"`
	Evidence string   `json:"evidence"`
	Mend     string   `json:"mend"`
}

// Facts are what checks look at.
type Facts struct {
	Decision decide.Decision

	Conf4, Conf6 map[string]map[string]int // net.ipv4.conf, net.ipv6.conf: by interface and name
	MTU          map[string]int            // by interface, in bytes
	Files        map[string]wg.File        // of pinned WireGuard devices that are there
	Endpoints    map[string][]netip.Addr   // of WireGuard devices, now
	Hooks        []Hook                    // files of `install`
	Texts        map[string]string         // configuration files of others, by path
	Networkd     []string                  // interfaces that systemd-networkd manages
	Systemd      bool                      // it runs here
	Links        map[string]bool           // symbolic links that enable units, by path
	Processes    []Process                 // of this network namespace
	Watched      bool                      // `watch` runs
	Manager      []string                  // interfaces that NetworkManager manages
	Dhcpcd       []string                  // uplinks whose leases the dhcpcd has that is for several interfaces
	Versions     map[Program]string        // of others' programs, where a distribution's list tells

	Failed map[Source]error // what could not be read
}

// Process is one that runs.
type Process struct {
	PID  int
	Name string   // of its program or thread, 15 characters at most
	Args []string // its own name first; some write other words over them
	Exe  string   // with " (deleted)" behind it where another one took its place
}

// Hook is a file of `install` that is not as it is to be.
type Hook struct{ Path, Lacks string }

// Source is where facts come from.
type Source string

// The sources.
const (
	Sysctls   Source = "sysctls"
	Interface Source = "interfaces"
	WireGuard Source = "WireGuard's files"
	Installed Source = "files of install"
	Others    Source = "configuration files of others"
	Running   Source = "processes"
	Clients   Source = "what DHCP clients have written"
)

// Check is one check.
type Check struct {
	Code  string
	Title string // what it looks for
	Why   string // the reason, as a paragraph
	needs []Source
	find  func(Facts) []Finding
}

// Run makes all checks. What one needs and could not be read makes it unknown.
func Run(f Facts) []Finding {
	list := []Finding{}
	for _, c := range Checks() {
		var lacks []string
		for _, s := range c.needs {
			if err := f.Failed[s]; err != nil {
				lacks = append(lacks, fmt.Sprintf("%s: %s", s, err))
			}
		}
		if len(lacks) > 0 {
			list = append(list, Finding{c.Code, Unknown, c.Title + ": could not be checked", strings.Join(lacks, "; "), "wg-multihome doctor, as root"})
			continue
		}
		for _, found := range c.find(f) {
			found.Code = c.Code
			list = append(list, found)
		}
	}
	return list
}

// Bad reports whether there is an error or a warning.
func Bad(list []Finding) bool {
	for _, f := range list {
		if f.Severity == Error || f.Severity == Warning {
			return true
		}
	}
	return false
}

// colours are those of severities that are to be mended.
var colours = map[Severity]screen.Colour{Error: screen.Bad, Warning: screen.Careful}

// Write writes findings for people, for where they are read.
func Write(w io.Writer, list []Finding, at screen.Screen) error {
	var b strings.Builder
	for i, f := range list {
		if i > 0 {
			b.WriteString("\n")
		}
		const indent = 16
		line := func(text string) {
			b.WriteString(at.Fill(strings.Repeat(" ", indent)+text, indent) + "\n")
		}
		head := at.Fill(fmt.Sprintf("%s %-8s %s", f.Code, f.Severity, f.What), indent)
		if c := colours[f.Severity]; c != "" {
			head = strings.Replace(head, string(f.Severity), at.Paint(c, string(f.Severity)), 1)
		}
		b.WriteString(head + "\n")
		for _, evidence := range strings.Split(f.Evidence, "\n") {
			line(evidence)
		}
		if f.Mend != "" {
			line("mend: " + f.Mend)
		}
	}
	if len(list) == 0 {
		fmt.Fprintf(&b, "nothing found by %d checks\n", len(Checks()))
	}
	_, err := io.WriteString(w, b.String())
	return err
}
