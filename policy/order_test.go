package policy_test

import (
	"slices"
	"strings"
	"testing"

	"wg-multihome/fwmark"
	"wg-multihome/policy"
	"wg-multihome/policy/policytest"
)

// stateOf reads rules and routes of ours, one to a line.
func stateOf(t *testing.T, text string) (s policy.State) {
	t.Helper()
	for _, line := range lines(text) {
		op := "- "
		if strings.HasPrefix(line, "link ") {
			op = "= "
		}
		step, err := policytest.ParseStep(op + line)
		switch {
		case err != nil:
			t.Fatal(err)
		case step.Op == policy.Set:
			s.Groups = append(s.Groups, step.Link)
		case step.IsRoute:
			s.Routes = append(s.Routes, step.Route)
		default:
			s.Rules = append(s.Rules, step.Rule)
		}
	}
	return s
}

func lines(text string) (list []string) {
	for _, line := range strings.Split(text, "\n") {
		if line = strings.TrimSpace(line); line != "" {
			list = append(list, line)
		}
	}
	return list
}

func checkSteps(t *testing.T, what string, steps []policy.Step, want string) {
	t.Helper()
	var got []string
	for _, s := range steps {
		got = append(got, s.String())
	}
	if !slices.Equal(got, lines(want)) {
		t.Errorf("%s:\n%s\nwant:\n%s", what, strings.Join(got, "\n"), want)
	}
}

// What is rare in random worlds, or needs a step that failed.
func TestOrder(t *testing.T) {
	for name, c := range map[string]struct {
		have, want  string
		held        []fwmark.Mark
		open, close string // close as if the steps of open had failed, all of them
	}{
		"a mark goes while its address moves to another uplink": {
			have: `
				rule 4 101 fwmark 0x2005 lookup 16909060
				rule 4 102 fwmark 0x2005 unreachable
				route 4 16909060 default dev up0 src 1.2.3.4`,
			want: `
				route 4 16909060 default dev up1 src 1.2.3.4`,
			open: `
				- rule 4 101 fwmark 0x2005 lookup 16909060
				+ route 4 16909060 default dev up1 src 1.2.3.4`,
			close: `
				- rule 4 101 fwmark 0x2005 lookup 16909060
				- rule 4 102 fwmark 0x2005 unreachable`,
		},
		// By the LAN's route while there is no group, and by the look-up's table as
		// soon as there is one.
		"a mark goes to another uplink, which was a LAN": {
			have: `
				rule 4 100 fwmark 0x2005 lookup main suppress_prefixlength 0 suppress_ifgroup 77
				rule 4 101 fwmark 0x2005 lookup 16909060
				rule 4 102 fwmark 0x2005 unreachable
				route 4 16909060 default dev up1 src 1.2.3.4
				link up1 group 77`,
			want: `
				rule 4 100 fwmark 0x2005 lookup main suppress_prefixlength 0 suppress_ifgroup 77
				rule 4 101 fwmark 0x2005 lookup 84281096
				rule 4 102 fwmark 0x2005 unreachable
				route 4 84281096 default dev up0 src 5.6.7.8
				link up0 group 77
				link up1 group 77`,
			open: `
				- rule 4 101 fwmark 0x2005 lookup 16909060
				+ route 4 84281096 default dev up0 src 5.6.7.8
				= link up0 group 77
				+ rule 4 101 fwmark 0x2005 lookup 84281096`,
			close: `
				- rule 4 101 fwmark 0x2005 lookup 16909060
				- route 4 16909060 default dev up1 src 1.2.3.4`,
		},
		"a mark that is held while pairs move in front of it": {
			have: `
				rule 4 200 fwmark 0x2005 lookup main suppress_prefixlength 0
				rule 4 202 fwmark 0x2005 unreachable
				rule 4 203 from 1.2.3.4 lookup main suppress_prefixlength 0
				rule 4 204 from 1.2.3.4 lookup 16909060`,
			want: `
				rule 4 103 from 1.2.3.4 lookup main suppress_prefixlength 0
				rule 4 104 from 1.2.3.4 lookup 16909060`,
			held: []fwmark.Mark{{Value: 0x2005, Mask: fwmark.FullMask}},
			open: `
				+ rule 4 102 fwmark 0x2005 unreachable
				+ rule 4 103 from 1.2.3.4 lookup main suppress_prefixlength 0
				+ rule 4 104 from 1.2.3.4 lookup 16909060`,
			close: ``, // and the old pair has no successor yet
		},
		"a block whose successor does not stand stays": {
			have: `
				rule 4 200 fwmark 0x2005 lookup main suppress_prefixlength 0
				rule 4 202 fwmark 0x2005 unreachable`,
			want: `
				rule 4 300 fwmark 0x2005 lookup main suppress_prefixlength 0
				rule 4 302 fwmark 0x2005 unreachable`,
			open: `
				+ rule 4 302 fwmark 0x2005 unreachable
				+ rule 4 300 fwmark 0x2005 lookup main suppress_prefixlength 0`,
			close: ``,
		},
		"an old block stays while an old pair stands in front of the new one": {
			have: `
				rule 4 200 fwmark 0x2005 lookup main suppress_prefixlength 0
				rule 4 202 fwmark 0x2005 unreachable
				rule 4 203 from 1.2.3.4 lookup main suppress_prefixlength 0
				rule 4 204 from 1.2.3.4 lookup 16909060
				rule 4 300 fwmark 0x2005 lookup main suppress_prefixlength 0
				rule 4 302 fwmark 0x2005 unreachable`,
			want: `
				rule 4 300 fwmark 0x2005 lookup main suppress_prefixlength 0
				rule 4 302 fwmark 0x2005 unreachable
				rule 4 303 from 1.2.3.4 lookup main suppress_prefixlength 0
				rule 4 304 from 1.2.3.4 lookup 16909060`,
			open: `
				+ rule 4 303 from 1.2.3.4 lookup main suppress_prefixlength 0
				+ rule 4 304 from 1.2.3.4 lookup 16909060`,
			close: ``,
		},
		"wrong look-ups go from the last one on": {
			have: `
				rule 4 8 fwmark 0x2005 lookup 16909061
				rule 4 100 fwmark 0x2005 lookup main suppress_prefixlength 0
				rule 4 101 fwmark 0x2005 lookup 16909062
				rule 4 102 fwmark 0x2005 unreachable`,
			want: `
				rule 4 100 fwmark 0x2005 lookup main suppress_prefixlength 0
				rule 4 101 fwmark 0x2005 lookup 16909060
				rule 4 102 fwmark 0x2005 unreachable`,
			open: `
				- rule 4 101 fwmark 0x2005 lookup 16909062
				- rule 4 8 fwmark 0x2005 lookup 16909061
				+ rule 4 101 fwmark 0x2005 lookup 16909060`,
			close: `
				- rule 4 8 fwmark 0x2005 lookup 16909061
				- rule 4 101 fwmark 0x2005 lookup 16909062`,
		},
		"a mark gives way to one that it overlaps": {
			have: `
				rule 4 101 fwmark 0x2000/0xff00 lookup 16909061
				rule 4 102 fwmark 0x2000/0xff00 unreachable`,
			want: `
				rule 4 101 fwmark 0x2005 lookup 16909060
				rule 4 102 fwmark 0x2005 unreachable`,
			open: `
				+ rule 4 102 fwmark 0x2005 unreachable
				- rule 4 101 fwmark 0x2000/0xff00 lookup 16909061
				+ rule 4 101 fwmark 0x2005 lookup 16909060`,
			close: `
				- rule 4 101 fwmark 0x2000/0xff00 lookup 16909061
				- rule 4 102 fwmark 0x2000/0xff00 unreachable`,
		},
		"a route stays until what replaces it stands": {
			have:  `route 4 16909060 default dev up0 src 1.2.3.4`,
			want:  `route 4 16909060 default via 1.2.3.1 dev up0 src 1.2.3.4`,
			open:  `+ route 4 16909060 default via 1.2.3.1 dev up0 src 1.2.3.4`,
			close: ``,
		},
	} {
		t.Run(name, func(t *testing.T) {
			have, want := stateOf(t, c.have), stateOf(t, c.want)
			checkSteps(t, "open", policy.Open(have, want), c.open)
			checkSteps(t, "close", policy.Close(have, want, c.held), c.close)
		})
	}
}
