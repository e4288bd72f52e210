package main

import (
	"fmt"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// pinnedPort is where the pinned sender sends to, and nobody else.
const pinnedPort = 9

// isp is the router of an ISP, which drops what has not a source of its own network,
// and counts the pinned sender's packets.
type isp struct {
	*space
	net      netip.Prefix // that of its customers
	counters *nftables.Conn
	table    *nftables.Table
}

// What is counted of the pinned sender's packets: those that came, and of them those
// that were passed on.
const came, passed = "came", "passed"

// newISP makes one with a link to far. number is 1 or 2.
func newISP(number int, net string, far *space) (*isp, error) {
	s, err := newSpace()
	if err != nil {
		return nil, err
	}
	i := &isp{space: s, net: netip.MustParsePrefix(net)}
	uplink := fmt.Sprintf("isp%d", number)
	if err := s.link("far", far, uplink); err != nil {
		return nil, err
	}
	err = s.do(func(h *netlink.Handle) error {
		if err := forward(); err != nil {
			return err
		}
		if err := addAddress(h, "far", fmt.Sprintf("10.%d.0.1/24", number)); err != nil {
			return err
		}
		return addRoute(h, farAddress+"/32", fmt.Sprintf("10.%d.0.2", number), 0)
	})
	if err != nil {
		return nil, err
	}
	err = far.do(func(h *netlink.Handle) error {
		if err := addAddress(h, uplink, fmt.Sprintf("10.%d.0.2/24", number)); err != nil {
			return err
		}
		return addRoute(h, net, fmt.Sprintf("10.%d.0.1", number), 0)
	})
	if err != nil {
		return nil, err
	}
	return i, i.filter()
}

// router is the ISP's address for its customers.
func (i *isp) router() string { return i.net.Addr().Next().String() }

// serve gives the customers' side of the router its address.
func (i *isp) serve() error {
	return i.do(func(h *netlink.Handle) error {
		return addAddress(h, "home", fmt.Sprintf("%s/%d", i.router(), i.net.Bits()))
	})
}

// filter is
//
//	chain forward {
//		type filter hook forward priority 0
//		iifname "home" udp dport 9 counter name "came"
//		iifname "home" ip saddr != 192.0.2.0/24 drop
//		iifname "home" udp dport 9 counter name "passed"
//	}
func (i *isp) filter() error {
	var err error
	if i.counters, err = nftables.New(nftables.WithNetNSFd(i.fd)); err != nil {
		return err
	}
	c := i.counters
	i.table = c.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "isp"})
	for _, name := range []string{came, passed} {
		c.AddObj(&nftables.CounterObj{Table: i.table, Name: name})
	}
	chain := c.AddChain(&nftables.Chain{
		Table: i.table, Name: "forward", Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookForward, Priority: nftables.ChainPriorityFilter,
	})
	count := func(name string) []expr.Any {
		port := binaryutil.BigEndian.PutUint16(pinnedPort)
		return append(fromHome(),
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_UDP}},
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: port},
			&expr.Objref{Type: unix.NFT_OBJECT_COUNTER, Name: name})
	}
	own := i.net.Masked().Addr().As4()
	spoofed := append(fromHome(),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: uint32(i.net.Bits() / 8)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: own[:i.net.Bits()/8]},
		&expr.Verdict{Kind: expr.VerdictDrop})
	for _, rule := range [][]expr.Any{count(came), spoofed, count(passed)} {
		c.AddRule(&nftables.Rule{Table: i.table, Chain: chain, Exprs: rule})
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("give a router its nftables rules: %w", err)
	}
	return nil
}

// fromHome matches what customers send.
func fromHome() []expr.Any {
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, "home")
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: name},
	}
}

// count returns how many packets a counter has.
func (i *isp) count(name string) (uint64, error) {
	o, err := i.counters.GetObject(&nftables.CounterObj{Table: i.table, Name: name})
	if err != nil {
		return 0, fmt.Errorf("read a router's counter: %w", err)
	}
	counter, ok := o.(*nftables.CounterObj)
	if !ok {
		return 0, fmt.Errorf("read a router's counter %s: the kernel has a %T", name, o)
	}
	return counter.Packets, nil
}
