package policy_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"syscall"
	"testing"

	"wg-multihome/fwmark"
	"wg-multihome/policy"
	"wg-multihome/policy/policytest"
	"wg-multihome/policy/sim"
)

const local policy.RouteType = 2 // RTN_LOCAL

// simulated builds a host in a simulated kernel.
func simulated(h policytest.Host) *sim.Kernel {
	k := sim.New()
	k.Links, k.Addrs = h.Links, h.Addrs
	for _, f := range fwmark.Families {
		if h.VRF {
			r := policy.Rule{Family: f, Action: policy.Lookup, Table: policy.TableLocal, Protocol: policy.ProtocolKernel}
			k.DeleteRule(r)
			r.Priority = 32765
			k.AddRule(r)
		}
	}
	for _, a := range h.Addrs {
		addr := a.Prefix.Addr()
		k.AppendRoute(policy.Route{Family: fwmark.FamilyOf(addr), Table: policy.TableLocal, Dst: netip.PrefixFrom(addr, addr.BitLen()), Type: local, Device: a.Device})
	}
	for _, r := range h.Routes {
		k.AppendRoute(r)
	}
	for _, r := range h.Rules {
		k.AddRule(r)
	}
	return k
}

// TestWhoseAsTheKernelHasIt converges random hosts: after each step no packet that
// is pinned leaves by another uplink, and in the end each leaves as Destinations
// says.
func TestWhoseAsTheKernelHasIt(t *testing.T) {
	for seed := range uint64(600) {
		h := policytest.RandomHost(rand.New(rand.NewPCG(seed, 1)))
		k := simulated(h)
		old := seed%2 == 1
		facts := func() policy.Facts {
			f := k.Facts()
			f.Routes = slices.DeleteFunc(f.Routes, func(r policy.Route) bool { return r.Table == policy.TableLocal })
			return f
		}
		if bad := policytest.Converge(h, old, facts, func(s policy.Step) error {
			if errno := k.Do(s); errno != sim.Done && errno != syscall.EEXIST {
				return errno
			}
			return nil
		}, func(p policy.Packet) policytest.Way {
			v := k.Verdict(p)
			if v.Route.Type == local {
				v.Route.Device = "lo"
			}
			return policytest.Way{Device: v.Route.Device, Errno: v.Errno, Rule: v.Rule}
		}); bad != nil {
			t.Fatalf("seed %d: %v\n%s", seed, bad, dump(k))
		}
	}
}

func dump(k *sim.Kernel) (text string) {
	for _, f := range fwmark.Families {
		for _, r := range k.Rules(f) {
			text += fmt.Sprintf("    %s proto %d\n", r, r.Protocol)
		}
	}
	for _, r := range k.Routes() {
		text += fmt.Sprintf("    %s proto %d\n", r, r.Protocol)
	}
	for _, l := range k.Links {
		text += fmt.Sprintf("    %+v\n", l)
	}
	return text
}
