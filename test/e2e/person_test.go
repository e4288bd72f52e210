package e2e

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"wg-multihome/test/lab"
)

// protected is a host with two marks, of which up2's is carried by wg0 and a
// service as well. Its configuration is taken away by other hands than a
// person's `sync`.
type protected struct {
	l       *lab.Lab
	device  *userDevice
	service string
	one4    string // what up1 has now
}

func newProtected(t *testing.T) *protected {
	t.Helper()
	l := newLab(t)
	l.Static()
	p := &protected{l: l, service: l.MakeCgroup("a.service"), one4: one4}
	p.device = devices(t, l, 1, "wg0")[0]
	return p
}

const sectionOfUp1 = "[uplink.up1]\nfwmark = 0x1001\n"

func (p *protected) toml() string {
	return sectionOfUp1 + fmt.Sprintf("[uplink.up2]\nfwmark = 0x2005\nwireguard = [\"wg0\"]\ncgroups = [%q]\n", p.service)
}

const stanzaOfUp1 = "auto up1\niface up1 inet dhcp\n\tmetric 1\n\tmultihomed-fwmark 0x1001\n"

func (p *protected) cgroupLine() string { return "\tmultihomed-cgroup " + p.service + "\n" }

func (p *protected) interfaces() string { return stanzaOfUp1 + tunnelled + p.cgroupLine() }

// renew gives up1 another address, and returns the event that a DHCP client
// would have for it.
func (p *protected) renew() []string {
	last := p.one4
	p.one4 = map[string]string{one4: "192.0.2.20", "192.0.2.20": one4}[last]
	p.l.Script(fmt.Sprintf("ip addr add %s/24 dev up1; ip addr del %s/24 dev up1; ip route replace default via 192.0.2.1 dev up1 metric 1", p.one4, last))
	return []string{"reason=RENEW", "interface=up1", "new_ip_address=" + p.one4, "new_subnet_mask=255.255.255.0", "new_routers=192.0.2.1"}
}

// follows fails the test unless up1's new address has its pair.
func (p *protected) follows(t *testing.T, when string) {
	t.Helper()
	if got := p.l.Ask(lab.Query{Network: "udp", Far: lab.Far4, Source: p.one4}); got != p.one4 {
		t.Errorf("%s: far saw %q from %s", when, got, p.one4)
	}
	wantPart(t, when+": rules", p.l.Rules("-4"), "from "+p.one4+" lookup ")
}

// holds fails the test unless up2's mark has all that it had.
func (p *protected) holds(t *testing.T, when string) {
	t.Helper()
	p.holdsMark(t, when)
	for far, seen := range map[string]string{lab.Far4: two4, lab.Far6: two6} {
		if got := p.l.Ask(lab.Query{Network: "udp", Far: far, Cgroup: p.service}); got != seen {
			t.Errorf("%s: far saw %q of the service, want %q", when, got, seen)
		}
	}
}

func (p *protected) holdsMark(t *testing.T, when string) {
	t.Helper()
	for family, parts := range map[string][]string{
		"-4": {"from all fwmark 0x2005 lookup 3325256714 proto 77", "from " + two4 + " lookup 3325256714 proto 77"},
		"-6": {"from all fwmark 0x2005 lookup 3919028321 proto 77", "from " + two6 + " lookup 3919028321 proto 77"},
	} {
		rules := p.l.Rules(family)
		for _, part := range append(parts, "from all fwmark 0x2005 lookup main suppress_prefixlength 0", "from all fwmark 0x2005 unreachable proto 77", "from all fwmark 0x1001 unreachable proto 77") {
			wantPart(t, when+": rules "+family, rules, part)
		}
	}
	wantPart(t, when+": table", p.table(), "chain lock_0x2005 {")
	wantEqual(t, when+": mark of wg0", fmt.Sprint(p.device.mark.Load()), "8197")
	for far, seen := range map[string]string{lab.Far4: two4, lab.Far6: two6} {
		if got := p.l.Ask(lab.Query{Network: "udp", Far: far, Mark: mark}); got != seen {
			t.Errorf("%s: far saw %q of the mark, want %q", when, got, seen)
		}
	}
}

func (p *protected) table() string {
	return p.l.Try(nil, "nft", "list", "table", "inet", "wg_multihome").Stdout
}

// unpinned fails the test if the service is still pinned.
func (p *protected) unpinned(t *testing.T, when string) {
	t.Helper()
	for far, seen := range map[string]string{lab.Far4: p.one4, lab.Far6: one6} {
		if got := p.l.Ask(lab.Query{Network: "udp", Far: far, Cgroup: p.service}); got != seen {
			t.Errorf("%s: far saw %q of the service, want %q", when, got, seen)
		}
	}
}

// gone fails the test if something of up2's mark is left.
func (p *protected) gone(t *testing.T, when string) {
	t.Helper()
	p.unpinned(t, when)
	for _, family := range []string{"-4", "-6"} {
		wantNone(t, when+": rules "+family, p.l.Rules(family), "0x2005")
	}
	wantNone(t, when+": table", p.table(), "0x2005")
	wantEqual(t, when+": mark of wg0", fmt.Sprint(p.device.mark.Load()), "0")
}

// said fails the test unless a message names all that is configured no longer.
// A step is none.
func said(t *testing.T, when string, r lab.Result, names ...string) {
	t.Helper()
	messages := regexp.MustCompile(`(?m)^(wg-multihome: )?[-+=] .*\n`).ReplaceAllString(r.Stderr, "")
	for _, name := range names {
		if !regexp.MustCompile(regexp.QuoteMeta(name) + `\b`).MatchString(messages) {
			t.Errorf("%s: no message names %s:\n%s", when, name, r.Stderr)
		}
	}
}

// TestOnlyAPersonTakesGuardsAway: what is configured no longer stays as it is
// when a hook calls, who says so; what is configured follows. A person's
// `sync` takes it away, and so does `down`.
func TestOnlyAPersonTakesGuardsAway(t *testing.T) {
	const interfacesFile = "/etc/network/interfaces"
	writeTOML := func(p *protected) { p.l.Write(lab.DefaultTOML, p.toml(), 0o644) }
	writeInterfaces := func(p *protected) { p.l.Interfaces(p.interfaces()) }
	for name, c := range map[string]struct {
		put, take func(*protected)
		putArgs   []string // of the person's sync while all is there
		hookArgs  []string // of the hooks' calls
		cgroup    bool     // the service's line alone is away
		refused   bool     // a person's sync is bad usage then: that the file is not there is what is said
		names     []string // what is configured no longer, beside up2's mark
	}{
		"the TOML file is away": {
			put: writeTOML, take: func(p *protected) { p.l.Run("rm", lab.DefaultTOML) }, names: []string{"0x1001"},
		},
		"the TOML file is empty": {
			put: writeTOML, take: func(p *protected) { p.l.Write(lab.DefaultTOML, "", 0o644) }, names: []string{"0x1001"},
		},
		"an uplink's section is away": {
			put: writeTOML, take: func(p *protected) { p.l.Write(lab.DefaultTOML, sectionOfUp1, 0o644) },
		},
		"the hook has no --config": {
			put: func(p *protected) { p.l.Write(namedFile, p.toml(), 0o644) }, take: func(*protected) {},
			putArgs: []string{"--config", namedFile}, names: []string{"0x1001"},
		},
		"the file that the hook names is away": {
			put: func(p *protected) { p.l.Write(namedFile, p.toml(), 0o644) }, take: func(p *protected) { p.l.Run("rm", namedFile) },
			putArgs: []string{"--config", namedFile}, hookArgs: []string{"--config", namedFile}, refused: true,
		},
		"the options of a stanza are away": {
			put: writeInterfaces, take: func(p *protected) { p.l.Interfaces(stanzaOfUp1 + "auto up2\niface up2 inet dhcp\n\tmetric 2\n") },
		},
		"the interfaces file is away": {
			put: writeInterfaces, take: func(p *protected) { p.l.Run("mv", interfacesFile, interfacesFile+".bak") }, names: []string{"0x1001"},
		},
		"a service's line is away": {
			put: writeInterfaces, take: func(p *protected) { p.l.Interfaces(strings.ReplaceAll(p.interfaces(), p.cgroupLine(), "")) }, cgroup: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newProtected(t)
			l := p.l
			names := append(c.names, "0x2005")
			switch {
			case c.cgroup:
				names = []string{p.service}
			case c.refused:
				names = []string{namedFile}
			}
			hook := func(when string, code int, args ...string) {
				t.Helper()
				r := l.Try(p.renew(), append(append([]string{l.Binary}, args...), c.hookArgs...)...)
				wantCode(t, r, code)
				said(t, when, r, names...)
				p.holds(t, when)
				p.follows(t, when)
			}
			put := func() {
				t.Helper()
				c.put(p)
				l.MustMH(append([]string{"sync"}, c.putArgs...)...)
				p.holds(t, "configured")
			}
			put()
			c.take(p)
			hook("a renewal", 2, "exit-hook")
			hook("another renewal", 2, "exit-hook")
			hook("sync --hook", 0, "sync", "--hook")
			r := l.MH(append([]string{"sync"}, c.hookArgs...)...)
			switch {
			case c.refused:
				wantCode(t, r, 2)
				p.holds(t, "a refused sync")
			case c.cgroup:
				wantCode(t, r, 0)
				p.holdsMark(t, "sync")
				p.unpinned(t, "sync")
			default:
				wantCode(t, r, 0)
				p.gone(t, "sync")
			}
			put()
			c.take(p)
			hook("a renewal before down", 2, "exit-hook")
			l.MustMH("down")
			p.gone(t, "down")
			noSpoof(t, l)
		})
	}
}
