package e2e

import (
	"strings"
	"testing"

	"wg-multihome/test/lab"
)

// foreign returns the rules that are not of protocol 77.
func foreign(rules string) string {
	var lines []string
	for _, line := range strings.Split(rules, "\n") {
		if !strings.HasSuffix(line, "proto 77") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}

func TestForeignRulesStayAndDoNotCapture(t *testing.T) {
	for name, rules := range map[string]string{
		"wg-quick":                             "ip route add default dev up1 table 51820; ip rule add not fwmark 0xca6c table 51820; ip rule add table main suppress_prefixlength 0",
		"all to a table":                       "ip route add default via 192.0.2.1 dev up1 table 77; ip rule add pref 5000 lookup 77",
		"an administrator's, from our address": "ip route add default via 192.0.2.1 dev up1 table 77; ip rule add pref 6 from 198.51.100.0/24 lookup 77",
		"goto":                                 "ip rule add pref 100 goto 32766",
		"mark bits":                            "ip route add default via 192.0.2.1 dev up1 table 77; ip rule add pref 300 fwmark 0x2000/0xff00 lookup 77",
		"half defaults":                        "ip route add 0/1 via 192.0.2.1 dev up1 table 77; ip route add 128/1 via 192.0.2.1 dev up1 table 77; ip rule add pref 300 lookup 77 suppress_prefixlength 0",
		"an administrator's, by ports":         "ip route add default via 192.0.2.1 dev up1 table 77; ip rule add pref 300 ipproto udp dport 7 lookup 77",
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.Static()
			l.Interfaces(pinned)
			l.MustMH("sync")
			l.Script(rules)
			before := foreign(l.Rules("-4"))
			plan := l.MH("plan")
			wantPart(t, "plan on stderr", plan.Stderr, "in front of the foreign rule")
			l.MustMH("sync")
			noDrift(t, l)
			wantEqual(t, "foreign rules", foreign(l.Rules("-4")), before)
			l.WantSeen(lab.Far4, "", mark, two4)
			if !strings.Contains(name, "administrator") { // whose word counts for what has no mark
				l.WantSeen(lab.Far4, two4, 0, two4)
			}
			wantPart(t, "status", l.MustMH("status").Stdout, "IN FRONT OF FOREIGN RULES")
			// And back, when they are gone.
			l.Script(strings.ReplaceAll(rules[strings.Index(rules, "ip rule add"):], "ip rule add", "ip rule del"))
			// What is unset is a wildcard: ours went first. wg-quick goes on until its own has.
			l.Script("while ip rule | grep -q 'from all lookup main suppress_prefixlength 0'; do ip rule del table main suppress_prefixlength 0; done")
			l.MustMH("sync")
			noDrift(t, l)
			wantPart(t, "rules", l.Rules("-4"), "32754: from all fwmark 0x2005 unreachable proto 77")
			l.WantSeen(lab.Far4, "", mark, two4)
			noSpoof(t, l)
		})
	}
}

func TestForeignRulesThatDoNotCapture(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Interfaces(pinned)
	l.Script(`ip route add default via 192.0.2.1 dev up1 table 77
ip rule add pref 10 iif up1 lookup 77; ip rule add pref 11 to 10.0.0.0/8 lookup 77; ip rule add pref 12 fwmark 0x9999 lookup 77
ip rule add pref 13 unreachable fwmark 0x8888; ip rule add pref 14 lookup 78`)
	before := foreign(l.Rules("-4"))
	l.MustMH("sync")
	noDrift(t, l)
	wantEqual(t, "foreign rules", foreign(l.Rules("-4")), before)
	wantPart(t, "rules", l.Rules("-4"), "32754: from all fwmark 0x2005 unreachable proto 77")
	l.MustMH("down")
	wantEqual(t, "foreign rules", foreign(l.Rules("-4")), before)
}

func TestNoRoomInFront(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Interfaces(pinned)
	l.Script("ip route add default via 192.0.2.1 dev up1 table 77; ip rule add pref 3 lookup 77")
	r := l.MH("sync")
	wantCode(t, r, 1)
	wantPart(t, "the message", r.Stderr, "no room in front")
	wantPart(t, "the message", r.Stderr, "rule 4 3 lookup 77")
}

// script is what the original shell script makes for pinned with two4.
const script = `
ip rule add pref 32752 fwmark 0x2005 lookup main suppress_prefixlength 0
ip rule add pref 32753 fwmark 0x2005 lookup 3325256714
ip rule add pref 32754 fwmark 0x2005 unreachable
ip rule add pref 32755 from 198.51.100.10 lookup main suppress_prefixlength 0
ip rule add pref 32756 from 198.51.100.10 lookup 3325256714
ip route replace default via 198.51.100.1 dev up2 table 3325256714`

func TestTakesOverTheScriptsObjects(t *testing.T) {
	for name, ours := range map[string]bool{"before ours": false, "beside ours": true} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			l.Static()
			l.Interfaces(pinned)
			// What is alike, but not exactly theirs, stays.
			l.Script("ip rule add pref 40 fwmark 0x2006 lookup 3325256714; ip rule add pref 41 from 198.51.100.99 lookup 3325256714; ip rule add pref 42 to 10.0.0.0/8 fwmark 0x2005 lookup 99")
			if ours {
				l.MustMH("sync")
			}
			strangers := foreign(l.Rules("-4"))
			l.Script(script)
			check := noLeak(t, l)
			stop := l.Flood(lab.Far4, mark)
			l.MustMH("sync")
			check(stop())
			noDrift(t, l)
			wantEqual(t, "foreign rules", foreign(l.Rules("-4")), strangers)
			wantPart(t, "table", l.Table("3325256714"), "proto 77")
			l.WantSeen(lab.Far4, "", mark, two4)
			l.WantSeen(lab.Far4, two4, 0, two4)
			noSpoof(t, l)
		})
	}
}

func TestMendsWhatOthersDelete(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Interfaces(pinned)
	l.MustMH("sync")
	want := l.Rules("-4")
	l.Script("ip rule delete table main suppress_prefixlength 0") // wg-quick down
	wantCode(t, l.MH("status", "--exit-code"), 3)
	l.MustMH("sync")
	wantEqual(t, "rules", sortLines(l.Rules("-4")), sortLines(want))
	l.Script("ip rule flush; ip rule add pref 32766 lookup main; ip rule add pref 32767 lookup default")
	l.MustMH("sync")
	wantEqual(t, "rules", sortLines(l.Rules("-4")), sortLines(want))
	l.WantSeen(lab.Far4, "", mark, two4)
}

// TestAdministratorsSourceRules has a second address with a router of its own, and
// a user who is sent into a VPN, as an administrator's rules have it. sync leaves
// both alone, and says so.
func TestAdministratorsSourceRules(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Interfaces(pinned)
	l.ISP2.Script("ip addr add 198.51.100.254/24 dev home")
	l.Script(`ip addr add 198.51.100.77/24 dev up2; ip route add default via 198.51.100.254 dev up2 table 100
ip rule add pref 1000 from 198.51.100.77 lookup 100
ip route add default dev lo table 201
ip rule add pref 2000 uidrange 4242-4242 lookup 201`)
	before := foreign(l.Rules("-4"))
	l.MustMH("sync")
	noDrift(t, l)
	wantEqual(t, "foreign rules", foreign(l.Rules("-4")), before)
	wantNone(t, "rules", l.Rules("-4"), "from 198.51.100.77 lookup main")
	wantPart(t, "rules", l.Rules("-4"), "\n32755: from 192.0.2.10 lookup main") // no pair moved in front of the user's rule
	wantPart(t, "rules", l.Rules("-4"), "\n997: from all fwmark 0x2005 unreachable proto 77")
	wantPart(t, "the user's packets", l.Run("ip", "route", "get", lab.Far4, "from", one4, "uid", "4242"), "dev lo")
	wantPart(t, "status", l.MustMH("status").Stdout, `address 198.51.100.77 of uplink "up2" is left to the foreign rule: rule 4 1000 from 198.51.100.77 lookup 100`)
	for source, seen := range map[string]string{"198.51.100.77": "198.51.100.77", one4: one4, two4: two4} {
		l.WantSeen(lab.Far4, source, 0, seen)
	}
	l.WantSeen(lab.Far4, "", mark, two4)
	l.WantSeen(lab.Far4, "198.51.100.77", mark, "198.51.100.77")
	noSpoof(t, l)

	// Behind ours it would never be asked: that is said.
	l.Script("ip rule add pref 32760 uidrange 4243-4243 lookup 201")
	l.MustMH("sync")
	noDrift(t, l)
	wantPart(t, "plan", l.MH("plan").Stderr, "never ask: rule 4 32760 (and more) lookup 201")
	wantPart(t, "status", l.MustMH("status").Stdout, "rule 4 32760 (and more) lookup 201")
}
