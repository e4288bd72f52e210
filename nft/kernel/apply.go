package kernel

import (
	"encoding/binary"
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"

	"wg-multihome/nft"
)

// chunk is how many elements go into one message: over 64 KiB the library
// loses elements, and says nothing.
const chunk = 500

// Apply makes a plan's changes, in one transaction: all or none. Elements of
// sets that stay, and of others, stay. To wake a dormant table takes one of its
// own, the kernel takes no chain of a hook in the same (nft_table_pending_update).
func (c *Client) Apply(p nft.Plan) error {
	if p.Empty() {
		return nil
	}
	if p.Wake {
		if err := c.commit(nft.Plan{}); err != nil {
			return err
		}
	}
	return c.commit(p)
}

func (c *Client) commit(p nft.Plan) error {
	conn, err := transaction()
	if err != nil {
		return explained("change table inet "+nft.Table, err)
	}
	tx := tx{conn, table()}
	if err := tx.queue(p); err != nil {
		return fmt.Errorf("change table inet %s: %w", nft.Table, err)
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("change table inet %s: %w", nft.Table, err)
	}
	return nil
}

// tx is a transaction in the making.
type tx struct {
	conn  *nftables.Conn
	table *nftables.Table
}

func (x tx) queue(p nft.Plan) error {
	t := x.table
	if p.DropTable {
		x.conn.DelTable(t)
		return nil
	}
	x.conn.AddTable(t)
	for _, name := range p.Flush {
		x.conn.FlushChain(&nftables.Chain{Table: t, Name: name})
	}
	for _, name := range p.DropChains {
		x.conn.DelChain(&nftables.Chain{Table: t, Name: name})
	}
	for _, name := range p.DropSets {
		x.conn.DelSet(&nftables.Set{Table: t, Name: name})
	}
	for _, name := range p.DropCounters {
		x.conn.DeleteObject(counter(t, name))
	}
	for _, name := range p.AddCounters {
		x.conn.AddObj(counter(t, name))
	}
	for _, s := range p.AddSets {
		if err := x.conn.AddSet(setOf(t, s), nil); err != nil {
			return fmt.Errorf("set %s: %w", s.Name, err)
		}
		if err := x.fill(s); err != nil {
			return err
		}
	}
	for _, s := range p.Refill {
		x.conn.FlushSet(setOf(t, s))
		if err := x.fill(s); err != nil {
			return err
		}
	}
	for _, u := range p.Elements {
		if err := x.elements(setOf(t, u.Set), ids(u.Add), ids(u.Delete)); err != nil {
			return err
		}
	}
	return x.chains(p)
}

func (x tx) chains(p nft.Plan) error {
	for _, chain := range p.AddChains {
		x.conn.AddChain(chainOf(x.table, chain))
	}
	for _, chain := range p.Fill {
		for _, r := range chain.Rules {
			exprs, err := encodeRule(r)
			if err != nil {
				return err
			}
			x.conn.AddRule(&nftables.Rule{Table: x.table, Chain: &nftables.Chain{Table: x.table, Name: chain.Name}, Exprs: exprs,
				UserData: userdata.AppendString(nil, userdata.TypeComment, r.Fingerprint())})
		}
	}
	return nil
}

func (x tx) fill(s nft.Set) error {
	return x.elements(setOf(x.table, s), append(ids(s.Cgroups), intervals(s)...), nil)
}

func (x tx) elements(s *nftables.Set, add, remove []nftables.SetElement) error {
	for _, change := range []struct {
		list []nftables.SetElement
		send func(*nftables.Set, []nftables.SetElement) error
	}{{remove, x.conn.SetDeleteElements}, {add, x.conn.SetAddElements}} {
		for len(change.list) > 0 {
			n := min(len(change.list), chunk)
			if err := change.send(s, change.list[:n]); err != nil {
				return fmt.Errorf("elements of set %s: %w", s.Name, err)
			}
			change.list = change.list[n:]
		}
	}
	return nil
}

func counter(t *nftables.Table, name string) nftables.Obj {
	return &nftables.NamedObj{Table: t, Name: name, Type: nftables.ObjTypeCounter, Obj: &expr.Counter{}}
}

// setOf returns a set as the library has it. Ids are in the machine's byte
// order, and unless the set says so nothing that others add ever matches.
func setOf(t *nftables.Table, s nft.Set) *nftables.Set {
	if s.Type == nft.Cgroups {
		return &nftables.Set{Table: t, Name: s.Name, KeyType: nftables.TypeCGroupV2, KeyByteOrder: binaryutil.NativeEndian}
	}
	key := nftables.TypeIPAddr
	if s.Family.Bits() > 32 {
		key = nftables.TypeIP6Addr
	}
	return &nftables.Set{Table: t, Name: s.Name, KeyType: key, Interval: true}
}

func ids(list []uint64) []nftables.SetElement {
	elements := make([]nftables.SetElement, len(list))
	for i, id := range list {
		elements[i].Key = binary.NativeEndian.AppendUint64(nil, id)
	}
	return elements
}

// intervals returns the first address of each range, and the first one behind
// it; behind the last address there is none.
func intervals(s nft.Set) []nftables.SetElement {
	var elements []nftables.SetElement
	for _, r := range s.Ranges {
		elements = append(elements, nftables.SetElement{Key: r.From().AsSlice()})
		if behind := r.To().Next(); behind.IsValid() {
			elements = append(elements, nftables.SetElement{Key: behind.AsSlice(), IntervalEnd: true})
		}
	}
	return elements
}

func chainOf(t *nftables.Table, c nft.Chain) *nftables.Chain {
	chain := &nftables.Chain{Table: t, Name: c.Name}
	if c.Base == (nft.Base{}) {
		return chain
	}
	accept := nftables.ChainPolicyAccept
	chain.Type = nftables.ChainType(c.Base.Type)
	chain.Priority = nftables.ChainPriorityRef(nftables.ChainPriority(c.Base.Priority))
	chain.Policy = &accept
	for number, name := range hookNames {
		if name == c.Base.Hook {
			chain.Hooknum = nftables.ChainHookRef(nftables.ChainHook(number))
		}
	}
	return chain
}
