package policy_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"wg-multihome/fwmark"
	"wg-multihome/policy"
)

// crowd is a host with n addresses on a hundred uplinks, and as many foreign
// objects: of every other address the original shell script's pair, all at one
// priority; and as many other foreign rules, with a prefix, that lead to a default.
func crowd(n int) policy.Facts {
	f := policy.Facts{Families: [2]bool{true, true}, Rules: localRules()}
	for i := range n {
		link := fmt.Sprintf("up%d", i%100)
		if i < 100 {
			f.Links = append(f.Links, policy.Link{Name: link, Up: true})
			f.Routes = append(f.Routes, policy.Route{Table: policy.TableMain, Dst: defaultOf(fwmark.IPv4), Type: policy.Unicast,
				Gateway: netip.MustParseAddr("10.0.0.1"), Device: link, Metric: uint32(i), Protocol: 3})
		}
		a := netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, 11<<24+uint32(i))))
		one := netip.PrefixFrom(a, 32)
		f.Addrs = append(f.Addrs, policy.Address{Device: link, Prefix: one, Global: true})
		f.Leases = append(f.Leases, policy.Lease{Device: link, Address: a, Gateway: netip.MustParseAddr("10.0.0.1")})
		from := policy.Rule{Priority: 20000, From: one, Action: policy.Lookup, Table: policy.TableOf(a)}
		if i%2 == 0 {
			suppress := from
			suppress.Table, suppress.Suppresses = policy.TableMain, true
			f.Rules = append(f.Rules, suppress, from)
			continue
		}
		from.From, from.Table, from.Protocol, from.Priority = netip.MustParsePrefix("12.0.0.0/8"), policy.TableMain, 4, 20001+uint32(i)
		f.Rules = append(f.Rules, from)
	}
	return f
}

// localRules are those that the kernel begins with in front of all.
func localRules() (rules []policy.Rule) {
	for _, f := range fwmark.Families {
		rules = append(rules, policy.Rule{Family: f, Action: policy.Lookup, Table: policy.TableLocal, Protocol: 2})
	}
	return rules
}

// BenchmarkPlan decides about a crowded host. The metric is time for each
// address, and does not grow with their number.
func BenchmarkPlan(b *testing.B) {
	for _, n := range []int{1000, 10000} {
		for name, intents := range map[string][]fwmark.Intent{
			"marked":   {{Uplink: "up1", Mark: fwmark.Mark{Value: 0x2005, Mask: fwmark.FullMask}}},
			"unmarked": nil,
		} {
			b.Run(fmt.Sprintf("%d-%s", n, name), func(b *testing.B) {
				f := crowd(n)
				for range b.N {
					plan(b, f, intents)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/address")
			})
		}
	}
}

// BenchmarkNothingToDo decides about a host on which all stands that is wanted.
func BenchmarkNothingToDo(b *testing.B) {
	f := crowd(1000)
	f.Rules = localRules()
	p := plan(b, f, nil)
	have := policy.StateAfter(policy.State{Rules: f.Rules, Routes: f.Routes}, p.Open)
	f.Links = policy.LinksAfter(f.Links, p.Open)
	f.Rules, f.Routes = have.Rules, have.Routes
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		if p := plan(b, f, nil); !p.Empty() {
			b.Fatal(p)
		}
	}
}

func plan(tb testing.TB, f policy.Facts, intents []fwmark.Intent) policy.Plan {
	uplinks, errs := policy.Uplinks(f, intents, false)
	pins, problems := fwmark.Resolve(intents, nil, policy.Standing(f), nil, nil)
	w := policy.Want(f, uplinks, pins, policy.DefaultPriority)
	if len(errs)+len(problems)+len(w.Errs) > 0 {
		tb.Fatal(errs, problems, w.Errs)
	}
	return policy.Diff(w.Have, w.State)
}

func TestCrowd(t *testing.T) {
	const n = 1000
	p := plan(t, crowd(n), nil)
	// A route and a pair for each address, and half of them had the script's
	// pair.
	if open, gone := len(p.Open), len(p.Close); open != 3*n+100 || gone != n { // and the groups of a hundred links
		t.Errorf("%d steps to open, %d to close", open, gone)
	}
}

// manyUplinks is a host with uplinks in private subnets, half of which overlap, and
// so many routes of others to prefixes of a block.
func manyUplinks(uplinks, others int, block, device string) policy.Facts {
	f := policy.Facts{Families: [2]bool{true, true}, Rules: localRules()}
	main := func(dst netip.Prefix, gateway, device string, metric int) {
		r := policy.Route{Table: policy.TableMain, Dst: dst, Type: policy.Unicast, Device: device, Metric: uint32(metric), Protocol: 3, OnLink: true}
		r.Gateway, _ = netip.ParseAddr(gateway)
		f.Routes = append(f.Routes, r)
	}
	for i := range uplinks {
		link, net := fmt.Sprintf("up%d", i), netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, byte(i / 2), 0}), 24)
		f.Links = append(f.Links, policy.Link{Name: link, Up: true})
		f.Addrs = append(f.Addrs, policy.Address{Device: link, Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, byte(i / 2), byte(10 + i%2)}), 24), Global: true})
		main(net, "", link, 0)
		main(defaultOf(fwmark.IPv4), netip.AddrFrom4([4]byte{192, 168, byte(i / 2), 1}).String(), link, i)
	}
	f.Links = append(f.Links, policy.Link{Name: "tun0", Up: true})
	for _, p := range manyPrefixes(others, block) {
		main(p, "192.168.0.254", device, 1)
	}
	main(splitDefaults[fwmark.IPv4][0], "", "tun0", 0)
	return f
}

// BenchmarkWhose decides about hosts with many copies; the metric is time for each
// route that is wanted or that others have.
func BenchmarkWhose(b *testing.B) {
	for _, c := range []struct {
		name          string
		uplinks, many int
		block, device string
	}{
		{"50 uplinks", 50, 0, "10.0.0.0/28", "tun0"},
		{"50 uplinks, 500 private behind a tunnel", 50, 500, "10.0.0.0/28", "tun0"},
		{"50 uplinks, 4000 private behind a tunnel", 50, 4000, "10.0.0.0/28", "tun0"},
		{"50 uplinks, 5000 private behind a tunnel", 50, 5000, "10.0.0.0/28", "tun0"},
		{"50 uplinks, 5000 of one", 50, 5000, "16.0.0.0/24", "up7"},
		{"50 uplinks, 5000 of a LAN", 50, 5000, "10.0.0.0/28", "lan0"},
		{"500 uplinks", 500, 0, "10.0.0.0/28", "tun0"},
	} {
		b.Run(c.name, func(b *testing.B) {
			f := manyUplinks(c.uplinks, c.many, c.block, c.device)
			var p policy.Plan
			for range b.N {
				p = plan(b, f, nil)
			}
			b.ReportMetric(float64(len(p.Open)), "steps")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(p.Open)+len(f.Routes)), "ns/route")
		})
	}
}
