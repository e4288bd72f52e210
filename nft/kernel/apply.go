package kernel

import (
	"encoding/binary"
	"fmt"

	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"

	"wg-multihome/fwmark"
	"wg-multihome/nft"
)

// chunk is how many elements go into one message: the length of an attribute
// has 16 bits.
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
	tx := tx{newBatch()}
	err := tx.queue(p)
	if err == nil {
		err = tx.send(c.socket)
	}
	if err != nil {
		return fmt.Errorf("change table inet %s: %w", nft.Table, err)
	}
	return nil
}

// tx is a batch that knows our table.
type tx struct{ *batch }

func (x tx) queue(p nft.Plan) error {
	if p.DropTable {
		x.add(unix.NFT_MSG_DELTABLE, 0, word(unix.NFTA_TABLE_NAME, nft.Table))
		return nil
	}
	x.add(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, word(unix.NFTA_TABLE_NAME, nft.Table), number32(unix.NFTA_TABLE_FLAGS, 0))
	for _, name := range p.Flush {
		x.add(unix.NFT_MSG_DELRULE, 0, word(unix.NFTA_RULE_TABLE, nft.Table), word(unix.NFTA_RULE_CHAIN, name))
	}
	for _, name := range p.DropChains {
		x.add(unix.NFT_MSG_DELCHAIN, 0, word(unix.NFTA_CHAIN_TABLE, nft.Table), word(unix.NFTA_CHAIN_NAME, name))
	}
	for _, name := range p.DropSets {
		x.add(unix.NFT_MSG_DELSET, 0, word(unix.NFTA_SET_TABLE, nft.Table), word(unix.NFTA_SET_NAME, name))
	}
	for _, name := range p.DropCounters {
		x.counter(unix.NFT_MSG_DELOBJ, 0, name)
	}
	for _, name := range p.AddCounters {
		x.counter(unix.NFT_MSG_NEWOBJ, unix.NLM_F_CREATE, name)
	}
	for _, s := range p.AddSets {
		x.set(s)
		x.fill(s)
	}
	for _, s := range p.Refill {
		x.elements(unix.NFT_MSG_DELSETELEM, 0, s.Name, nil)
		x.fill(s)
	}
	for _, u := range p.Elements {
		x.change(unix.NFT_MSG_DELSETELEM, 0, u.Set.Name, ids(u.Delete))
		x.change(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE, u.Set.Name, ids(u.Add))
	}
	for _, c := range p.AddChains {
		x.chain(c)
	}
	return x.rules(p.Fill)
}

func (x tx) counter(kind, flags uint16, name string) {
	var none [8]byte
	x.add(kind, flags, word(unix.NFTA_OBJ_TABLE, nft.Table), word(unix.NFTA_OBJ_NAME, name), number32(unix.NFTA_OBJ_TYPE, unix.NFT_OBJECT_COUNTER),
		nest(unix.NFTA_OBJ_DATA, attribute(unix.NFTA_COUNTER_BYTES, none[:]), attribute(unix.NFTA_COUNTER_PACKETS, none[:])))
}

// set adds a set. Without the order of its keys' bytes, which the kernel keeps
// for nft(8), nothing that others add to a set of cgroups ever matches.
func (x tx) set(s nft.Set) {
	switch s.Type {
	case nft.Askers:
		x.askers(s)
		return
	case nft.Answers:
		x.late(s)
		return
	}
	kind, width, flags, order := uint32(typeCgroup), uint32(8), uint32(0), uint32(hostOrder)
	if s.Type == nft.Prefixes {
		kind, width, flags, order = addressType(s.Family), uint32(s.Family.Bits()/8), unix.NFT_SET_INTERVAL, networkOrder
	}
	x.add(unix.NFT_MSG_NEWSET, unix.NLM_F_CREATE, word(unix.NFTA_SET_TABLE, nft.Table), word(unix.NFTA_SET_NAME, s.Name),
		number32(unix.NFTA_SET_FLAGS, flags), number32(unix.NFTA_SET_KEY_TYPE, kind), number32(unix.NFTA_SET_KEY_LEN, width),
		number32(unix.NFTA_SET_ID, x.count), // any that no other set of the batch has
		attribute(unix.NFTA_SET_USERDATA, userdata.AppendUint32(nil, userdata.NFTNL_UDATA_SET_KEYBYTEORDER, order)))
}

// addressType is the data type of a family's addresses.
func addressType(f fwmark.Family) uint32 {
	if f == fwmark.IPv6 {
		return typeIPv6
	}
	return typeIPv4
}

// askers adds a map of those who ask. Its elements come from packets.
func (x tx) askers(s nft.Set) {
	address := addressType(s.Family)
	x.add(unix.NFT_MSG_NEWSET, unix.NLM_F_CREATE, word(unix.NFTA_SET_TABLE, nft.Table), word(unix.NFTA_SET_NAME, s.Name),
		number32(unix.NFTA_SET_FLAGS, askersFlags), number32(unix.NFTA_SET_KEY_TYPE, askersKey(address)),
		number32(unix.NFTA_SET_KEY_LEN, 4*(words(s.Family)+2)), number32(unix.NFTA_SET_DATA_TYPE, address), number32(unix.NFTA_SET_DATA_LEN, 4*words(s.Family)),
		nest(unix.NFTA_SET_DESC, number32(unix.NFTA_SET_DESC_SIZE, nft.AskersMax)),
		attribute(unix.NFTA_SET_TIMEOUT, binary.BigEndian.AppendUint64(nil, uint64(nft.AskerTime.Milliseconds()))),
		number32(unix.NFTA_SET_ID, x.count))
}

// askersFlags are those of a map of those who ask.
const askersFlags = unix.NFT_SET_MAP | unix.NFT_SET_TIMEOUT | unix.NFT_SET_EVAL

// askersKey is the data type of such a map's key: six bits for each field's type
// (nft(8)'s concat_subtype_add).
func askersKey(address uint32) uint32 {
	return (address<<typeBits|typeService)<<typeBits | typeService
}

// Of nft(8)'s datatype.h: TYPE_BITS, and TYPE_INET_SERVICE.
const typeBits, typeService = 6, 13

// Of nft(8)'s enum byteorder, datatype.h.
const (
	hostOrder    = 1
	networkOrder = 2
)

func (x tx) fill(s nft.Set) {
	x.change(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE, s.Name, append(ids(s.Cgroups), intervals(s)...))
}

func (x tx) change(kind, flags uint16, set string, list []element) {
	for len(list) > 0 {
		n := min(len(list), chunk)
		x.elements(kind, flags, set, list[:n])
		list = list[n:]
	}
}

// elements adds or deletes elements of a set; to delete none is to delete all.
func (x tx) elements(kind, flags uint16, set string, list []element) {
	attributes := [][]byte{word(unix.NFTA_SET_ELEM_LIST_TABLE, nft.Table), word(unix.NFTA_SET_ELEM_LIST_SET, set)}
	var items [][]byte
	for _, e := range list {
		item := [][]byte{nest(unix.NFTA_SET_ELEM_KEY, attribute(unix.NFTA_DATA_VALUE, e.key))}
		if e.end {
			item = append(item, number32(unix.NFTA_SET_ELEM_FLAGS, unix.NFT_SET_ELEM_INTERVAL_END))
		}
		items = append(items, nest(unix.NFTA_LIST_ELEM, item...))
	}
	if len(items) > 0 {
		attributes = append(attributes, nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS, items...))
	}
	x.add(kind, flags, attributes...)
}

func ids(list []uint64) []element {
	elements := make([]element, len(list))
	for i, id := range list {
		elements[i].key = binary.NativeEndian.AppendUint64(nil, id)
	}
	return elements
}

// intervals returns the first address of each range, and the first one behind
// it; behind the last address there is none.
func intervals(s nft.Set) []element {
	var elements []element
	for _, r := range s.Ranges {
		elements = append(elements, element{key: r.From().AsSlice()})
		if behind := r.To().Next(); behind.IsValid() {
			elements = append(elements, element{key: behind.AsSlice(), end: true})
		}
	}
	return elements
}

func (x tx) chain(c nft.Chain) {
	attributes := [][]byte{word(unix.NFTA_CHAIN_TABLE, nft.Table), word(unix.NFTA_CHAIN_NAME, c.Name)}
	if c.Base != (nft.Base{}) {
		var hook uint32
		for number, name := range hookNames {
			if name == c.Base.Hook {
				hook = number
			}
		}
		attributes = append(attributes,
			nest(unix.NFTA_CHAIN_HOOK, number32(unix.NFTA_HOOK_HOOKNUM, hook), number32(unix.NFTA_HOOK_PRIORITY, uint32(int32(c.Base.Priority)))),
			number32(unix.NFTA_CHAIN_POLICY, policyAccept), word(unix.NFTA_CHAIN_TYPE, c.Base.Type))
	}
	x.add(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE, attributes...)
}

// rules adds rules behind those that stand in their chains.
func (x tx) rules(chains []nft.Chain) error {
	for _, c := range chains {
		for _, r := range c.Rules {
			list, err := encodeRule(r)
			if err != nil {
				return err
			}
			expressions := make([][]byte, len(list))
			for i, e := range list {
				encoded, err := expr.Marshal(unix.NFPROTO_INET, e)
				if err != nil {
					return fmt.Errorf("rule %q: %w", r, err)
				}
				expressions[i] = nest(unix.NFTA_LIST_ELEM, encoded)
			}
			x.add(unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND, word(unix.NFTA_RULE_TABLE, nft.Table), word(unix.NFTA_RULE_CHAIN, c.Name),
				nest(unix.NFTA_RULE_EXPRESSIONS, expressions...), attribute(unix.NFTA_RULE_USERDATA, userdata.AppendString(nil, userdata.TypeComment, r.Fingerprint())))
		}
	}
	return nil
}
