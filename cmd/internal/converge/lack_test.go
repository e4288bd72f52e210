package converge

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wg-multihome/cmd/internal/logging"
	"wg-multihome/cmd/internal/state"
	"wg-multihome/fwmark"
	"wg-multihome/fwmark/config"
	"wg-multihome/nft"
	nftkernel "wg-multihome/nft/kernel"
)

// lacking is an nf_tables in which one kind of expression is not built.
type lacking struct {
	nftables
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
	return l.nftables.Apply(p)
}

// none is a kernel without nf_tables.
type none struct{}

func (none) Read() (nft.State, error) {
	return nft.State{}, fmt.Errorf("read nftables' tables: %w", nftkernel.ErrNone)
}
func (none) Apply(nft.Plan) error { return nftkernel.ErrNone }
func (none) Close()               {}

// converge runs once over an nf_tables, with up2 pinned and these cgroups.
func (b *testbed) converge(table nftables, cgroups []string) Report {
	b.t.Helper()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	must(b.t, err)
	defer null.Close()
	h := &Host{State: b.dir, Log: logging.New(null, false), kernel: b.k, nft: table, said: map[string]*state.Record{}, config: config.Config{
		Priority: 32752, HookTimeout: time.Second,
		Intents: []fwmark.Intent{{
			Uplink: "up2", Mark: fwmark.Mark{Value: testMark, Mask: fwmark.FullMask}, Cgroups: cgroups,
			Gateways: [2]netip.Addr{netip.MustParseAddr("198.51.100.1")},
		}},
	}}
	_, report := h.converge(context.Background())
	return report
}

// TestKernelLacksAnExpression: what can be loaded is, and the rest is named.
func TestKernelLacksAnExpression(t *testing.T) {
	for what, kind := range map[string]nft.Kind{
		"socket": nft.InCgroup, "fib": nft.FromOther, "masq": nft.Masquerade, "ct": nft.CtMark, "reject": nft.Reset,
	} {
		t.Run(what, func(t *testing.T) {
			b := newTestbed(t)
			without := b.converge(b.nft, nil)
			if without.Status() != Done {
				t.Fatal(without.Errs)
			}
			want, err := b.nft.Read()
			must(t, err)
			must(t, b.nft.Apply(nft.Diff(want, nft.Ruleset{}, nil)))
			report := b.converge(lacking{b.nft, kind}, []string{})
			if err := errors.Join(report.Errs...); report.Status() != Failed || !errors.Is(err, unix.ENOENT) || !strings.Contains(err.Error(), "nft chain services") {
				t.Errorf("status %d: %v", report.Status(), err)
			}
			for _, err := range report.Errs {
				if strings.Contains(err.Error(), "lock") {
					t.Errorf("the lock is reported: %v", err)
				}
			}
			have, err := b.nft.Read()
			must(t, err)
			for name, chain := range want.Chains {
				if !slices.Equal(have.Chains[name].Fingerprints, chain.Fingerprints) {
					t.Errorf("chain %s is %v, want %v", name, have.Chains[name], chain)
				}
			}
			b.check("without "+what, false)
			// And with a kernel that has it, all is there.
			if report := b.converge(b.nft, []string{}); report.Status() != Done {
				t.Errorf("later: %v", report.Errs)
			}
		})
	}
}

// TestServicesStayWhereTheyCannotBeChanged: what stands of a part that the
// kernel refuses to change is not taken away.
func TestServicesStayWhereTheyCannotBeChanged(t *testing.T) {
	b := newTestbed(t)
	if report := b.converge(b.nft, []string{}); report.Status() != Done {
		t.Fatal(report.Errs)
	}
	want, err := b.nft.Read()
	must(t, err)
	b.address("up2", "198.51.100.10/24", false) // no table: chain pin_0x2005 changes
	if report := b.converge(lacking{b.nft, nft.Reset}, []string{}); report.Status() != Failed {
		t.Errorf("status %d", report.Status())
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
	if report := b.converge(none{}, nil); report.Status() != Done {
		t.Errorf("nothing needs nf_tables: %v", report.Errs)
	}
	if by := b.leaves(testMark, ""); by != "up2" {
		t.Errorf("marked packets leave by %q", by)
	}
	report := b.converge(none{}, []string{"a.service"})
	if err := errors.Join(report.Errs...); report.Status() != Failed || !errors.Is(err, nftkernel.ErrNone) || !strings.Contains(err.Error(), "services cannot be pinned") {
		t.Errorf("status %d: %v", report.Status(), err)
	}
}
