package converge

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wg-multihome/cmd/internal/host"
	"wg-multihome/cmd/internal/report"
	"wg-multihome/fwmark"
	"wg-multihome/fwmark/config"
	"wg-multihome/nft"
	nftkernel "wg-multihome/nft/kernel"
)

// lacking is an nf_tables in which one kind of expression is not built.
type lacking struct {
	host.Nftables
	kind nft.Kind
}

func (l lacking) Apply(p nft.Plan) error {
	for _, c := range p.Fill {
		for _, r := range c.Rules {
			if slices.ContainsFunc(r, func(e nft.Expr) bool { return e.Kind == l.kind }) {
				return fmt.Errorf("change table inet %s: %w", nft.Table, unix.ENOENT)
			}
		}
	}
	return l.Nftables.Apply(p)
}

// none is a kernel without nf_tables.
type none struct{}

func (none) Read() (nft.State, error) {
	return nft.State{}, fmt.Errorf("read nftables' tables: %w", nftkernel.ErrNone)
}
func (none) Apply(nft.Plan) error    { return nftkernel.ErrNone }
func (none) Expect([]nft.Late) error { return nftkernel.ErrNone }
func (none) Close()                  {}

// converge runs once over an nf_tables, with up2 pinned and the packets of these
// cgroups.
func (b *testbed) converge(table host.Nftables, cgroups []string) report.Report {
	b.t.Helper()
	r, end := b.newRun(config.Config{
		Priority: 32752, HookTimeout: time.Second, Marking: fwmark.ByPacket,
		Intents: []fwmark.Intent{{
			Uplink: "up2", Mark: fwmark.Mark{Value: testMark, Mask: fwmark.FullMask}, Cgroups: cgroups,
			Gateways: [2]netip.Addr{netip.MustParseAddr("198.51.100.1")},
		}},
	}, b.k, table)
	defer end()
	_, rep := r.Converge(context.Background(), 0)
	return rep
}

// TestKernelLacksAnExpression: what can be loaded is, and the rest is named.
func TestKernelLacksAnExpression(t *testing.T) {
	for what, kind := range map[string]nft.Kind{
		"socket": nft.InCgroup, "fib": nft.FromOther, "masq": nft.Masquerade, "ct": nft.CtMark, "reject": nft.Reset,
	} {
		t.Run(what, func(t *testing.T) {
			b := newTestbed(t)
			without := b.converge(b.nft, nil)
			if without.Status() != report.Done {
				t.Fatal(without.Errs)
			}
			want, err := b.nft.Read()
			must(t, err)
			must(t, b.nft.Apply(nft.Diff(want, nft.Ruleset{}, nil)))
			rep := b.converge(lacking{b.nft, kind}, []string{})
			if err := errors.Join(rep.Errs...); rep.Status() != report.Error || !errors.Is(err, unix.ENOENT) || !strings.Contains(err.Error(), "nft chain services") {
				t.Errorf("status %d: %v", rep.Status(), err)
			}
			for _, err := range rep.Errs {
				if strings.Contains(err.Error(), "lock") {
					t.Errorf("the lock is reported: %v", err)
				}
			}
			have, err := b.nft.Read()
			must(t, err)
			for name, chain := range want.Chains {
				for _, rule := range chain.Fingerprints {
					if !slices.Contains(have.Chains[name].Fingerprints, rule) {
						t.Errorf("chain %s is %v, want %v", name, have.Chains[name], chain)
					}
				}
			}
			b.check("without "+what, false)
			// And with a kernel that has it, all is there.
			if rep := b.converge(b.nft, []string{}); rep.Status() != report.Done {
				t.Errorf("later: %v", rep.Errs)
			}
		})
	}
}

// TestServicesStayWhereTheyCannotBeChanged: what stands of a part that the
// kernel refuses to change is not taken away.
func TestServicesStayWhereTheyCannotBeChanged(t *testing.T) {
	b := newTestbed(t)
	if rep := b.converge(b.nft, []string{}); rep.Status() != report.Done {
		t.Fatal(rep.Errs)
	}
	want, err := b.nft.Read()
	must(t, err)
	b.address("up2", "198.51.100.10/24", false) // no table: chain pin_0x2005 changes
	if rep := b.converge(lacking{b.nft, nft.Reset}, []string{}); rep.Status() != report.Error {
		t.Errorf("status %d", rep.Status())
	}
	have, err := b.nft.Read()
	must(t, err)
	for _, name := range []string{"services", "sources", "pin_0x2005"} {
		if !slices.Equal(have.Chains[name].Fingerprints, want.Chains[name].Fingerprints) || len(want.Chains[name].Fingerprints) == 0 {
			t.Errorf("chain %s is %v, was %v", name, have.Chains[name], want.Chains[name])
		}
	}
}

func TestKernelWithoutNftables(t *testing.T) {
	b := newTestbed(t)
	if rep := b.converge(none{}, nil); rep.Status() != report.Done {
		t.Errorf("nothing needs nf_tables: %v", rep.Errs)
	}
	if by := b.leaves(testMark, ""); by != "up2" {
		t.Errorf("marked packets leave by %q", by)
	}
	rep := b.converge(none{}, []string{"a.service"})
	if err := errors.Join(rep.Errs...); rep.Status() != report.Error || !errors.Is(err, nftkernel.ErrNone) || !strings.Contains(err.Error(), "services cannot be pinned") {
		t.Errorf("status %d: %v", rep.Status(), err)
	}
}
