package kernel

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/mdlayher/netlink"
	"go4.org/netipx"
	"golang.org/x/sys/unix"

	"wg-multihome/fwmark"
	"wg-multihome/nft"
)

// message is an answer of nf_tables, behind struct nfgenmsg.
type message []byte

// each walks attributes. The numbers in them are big endian, as everywhere in
// nf_tables.
func each(b []byte, take func(kind uint16, d *netlink.AttributeDecoder)) error {
	d, err := netlink.NewAttributeDecoder(b)
	if err != nil {
		return err
	}
	d.ByteOrder = binary.BigEndian
	for d.Next() {
		take(d.Type(), d)
	}
	return d.Err()
}

// nested walks the attributes in an attribute.
func nested(d *netlink.AttributeDecoder, take func(kind uint16, d *netlink.AttributeDecoder)) {
	d.Do(func(b []byte) error { return each(b, take) })
}

func (m message) table(s *nft.State) error {
	var name string
	var flags uint32
	err := each(m, func(kind uint16, d *netlink.AttributeDecoder) {
		switch kind {
		case unix.NFTA_TABLE_NAME:
			name = d.String()
		case unix.NFTA_TABLE_FLAGS:
			flags = d.Uint32()
		}
	})
	if err == nil && name == nft.Table {
		s.Exists, s.Dormant = true, flags&unix.NFT_TABLE_F_DORMANT != 0
	}
	return err
}

// policyAccept is NF_ACCEPT, linux/netfilter.h.
const policyAccept = 1

// hookNames are the hooks that our chains can have, linux/netfilter.h.
var hookNames = map[uint32]string{
	unix.NF_INET_PRE_ROUTING: "prerouting", unix.NF_INET_LOCAL_IN: "input", unix.NF_INET_FORWARD: "forward",
	unix.NF_INET_LOCAL_OUT: "output", unix.NF_INET_POST_ROUTING: "postrouting",
}

func (m message) chain(s *nft.State) error {
	var of, name string
	c := nft.ChainState{Fingerprints: []string{}}
	err := each(m, func(kind uint16, d *netlink.AttributeDecoder) {
		switch kind {
		case unix.NFTA_CHAIN_TABLE:
			of = d.String()
		case unix.NFTA_CHAIN_NAME:
			name = d.String()
		case unix.NFTA_CHAIN_TYPE:
			c.Base.Type = d.String()
		case unix.NFTA_CHAIN_POLICY:
			if d.Uint32() != policyAccept {
				c.Base.Hook += "!" // unlike any of ours
			}
		case unix.NFTA_CHAIN_HOOK:
			nested(d, func(kind uint16, d *netlink.AttributeDecoder) {
				switch kind {
				case unix.NFTA_HOOK_HOOKNUM:
					c.Base.Hook = hookNames[d.Uint32()] + c.Base.Hook
				case unix.NFTA_HOOK_PRIORITY:
					c.Base.Priority = int(int32(d.Uint32()))
				}
			})
		}
	})
	if err == nil && of == nft.Table {
		s.Chains[name] = c
	}
	return err
}

func (m message) rule(s *nft.State) error {
	var of, chain, fingerprint, device string
	err := each(m, func(kind uint16, d *netlink.AttributeDecoder) {
		switch kind {
		case unix.NFTA_RULE_TABLE:
			of = d.String()
		case unix.NFTA_RULE_CHAIN:
			chain = d.String()
		case unix.NFTA_RULE_USERDATA:
			fingerprint = comment(d.Bytes())
		case unix.NFTA_RULE_EXPRESSIONS:
			device = outDevice(d)
		}
	})
	c, known := s.Chains[chain]
	if err == nil && of == nft.Table && known {
		c.Fingerprints = append(c.Fingerprints, fingerprint)
		if device != "" {
			c.Devices = append(c.Devices, device)
		}
		s.Chains[chain] = c
	}
	return err
}

// outDevice returns the device that a rule's first two expressions compare
// `oifname` with; "" where they do something else.
func outDevice(d *netlink.AttributeDecoder) string {
	var place int
	var key uint32
	var value []byte
	nested(d, func(_ uint16, d *netlink.AttributeDecoder) {
		place++
		var name string
		nested(d, func(kind uint16, d *netlink.AttributeDecoder) {
			switch {
			case kind == unix.NFTA_EXPR_NAME:
				name = d.String()
			case kind == unix.NFTA_EXPR_DATA && place == 1 && name == "meta":
				nested(d, func(kind uint16, d *netlink.AttributeDecoder) {
					if kind == unix.NFTA_META_KEY {
						key = d.Uint32()
					}
				})
			case kind == unix.NFTA_EXPR_DATA && place == 2 && name == "cmp":
				nested(d, func(kind uint16, d *netlink.AttributeDecoder) {
					if kind == unix.NFTA_CMP_DATA {
						nested(d, func(_ uint16, d *netlink.AttributeDecoder) { value = d.Bytes() })
					}
				})
			}
		})
	})
	if key != unix.NFT_META_OIFNAME {
		return ""
	}
	return unix.ByteSliceToString(value)
}

// comment returns the comment in a rule's user data, which is a list of type,
// length and value (libnftnl's udata.h); "" where there is none.
func comment(b []byte) string {
	const commentType = 0 // NFTNL_UDATA_RULE_COMMENT
	for len(b) >= 2 && len(b) >= 2+int(b[1]) {
		if b[0] == commentType {
			return unix.ByteSliceToString(b[2 : 2+int(b[1])])
		}
		b = b[2+int(b[1]):]
	}
	return ""
}

// counter passes over objects of other types, quotas and firewalld's helpers
// among them: tables of others have those.
func (m message) counter(s *nft.State) error {
	var of, name string
	var data []byte // of what kind, another attribute says
	isCounter := false
	err := each(m, func(kind uint16, d *netlink.AttributeDecoder) {
		switch kind {
		case unix.NFTA_OBJ_TABLE:
			of = d.String()
		case unix.NFTA_OBJ_NAME:
			name = d.String()
		case unix.NFTA_OBJ_TYPE:
			isCounter = d.Uint32() == unix.NFT_OBJECT_COUNTER
		case unix.NFTA_OBJ_DATA:
			data = d.Bytes()
		}
	})
	if err != nil || of != nft.Table || !isCounter {
		return err
	}
	return each(data, func(kind uint16, d *netlink.AttributeDecoder) {
		if kind == unix.NFTA_COUNTER_PACKETS {
			s.Counters[name] = d.Uint64()
		}
	})
}

// The data types of nft(8) that our sets have (datatype.h); the kernel keeps
// them for it.
const (
	typeIPv4   = 7
	typeIPv6   = 8
	typeCgroup = 46
)

func (m message) set(s *nft.State) error {
	var of string
	var set nft.Set
	var key, flags uint32
	err := each(m, func(kind uint16, d *netlink.AttributeDecoder) {
		switch kind {
		case unix.NFTA_SET_TABLE:
			of = d.String()
		case unix.NFTA_SET_NAME:
			set.Name = d.String()
		case unix.NFTA_SET_KEY_TYPE:
			key = d.Uint32()
		case unix.NFTA_SET_FLAGS:
			flags = d.Uint32()
		}
	})
	switch {
	case key == typeCgroup && flags&^(unix.NFT_SET_TIMEOUT|unix.NFT_SET_EVAL) == 0:
		set.Type, set.Timed = nft.Cgroups, flags != 0
	case key == askersKey(typeIPv4) && flags == askersFlags:
		set.Type, set.Family = nft.Askers, fwmark.IPv4
	case key == askersKey(typeIPv6) && flags == askersFlags:
		set.Type, set.Family = nft.Askers, fwmark.IPv6
	case key == lateKeyType(typeIPv4) && flags == lateFlags:
		set.Type, set.Family = nft.Answers, fwmark.IPv4
	case key == lateKeyType(typeIPv6) && flags == lateFlags:
		set.Type, set.Family = nft.Answers, fwmark.IPv6
	case key == typeIPv4 && flags == unix.NFT_SET_INTERVAL:
		set.Type, set.Family = nft.Prefixes, fwmark.IPv4
	case key == typeIPv6 && flags == unix.NFT_SET_INTERVAL:
		set.Type, set.Family = nft.Prefixes, fwmark.IPv6
	}
	if err == nil && of == nft.Table && flags&unix.NFT_SET_ANONYMOUS == 0 {
		s.Sets[set.Name] = set
	}
	return err
}

// element is one of a set: a key, or the first one behind an interval.
type element struct {
	key []byte
	end bool
}

type elements []element

func (m message) elements(list *elements) error {
	return each(m, func(kind uint16, d *netlink.AttributeDecoder) {
		if kind != unix.NFTA_SET_ELEM_LIST_ELEMENTS {
			return
		}
		nested(d, func(_ uint16, d *netlink.AttributeDecoder) {
			var e element
			nested(d, func(kind uint16, d *netlink.AttributeDecoder) {
				switch kind {
				case unix.NFTA_SET_ELEM_KEY:
					nested(d, func(kind uint16, d *netlink.AttributeDecoder) {
						if kind == unix.NFTA_DATA_VALUE {
							e.key = d.Bytes()
						}
					})
				case unix.NFTA_SET_ELEM_FLAGS:
					e.end = d.Uint32()&unix.NFT_SET_ELEM_INTERVAL_END != 0
				}
			})
			*list = append(*list, e)
		})
	})
}

// into fills a set of a type that we know.
func (l elements) into(s *nft.Set) {
	switch s.Type {
	case nft.Cgroups:
		for _, e := range l {
			if len(e.key) == 8 { // the directory's inode, in the machine's order
				s.Cgroups = append(s.Cgroups, binary.NativeEndian.Uint64(e.key))
			}
		}
		slices.Sort(s.Cgroups)
	case nft.Prefixes:
		s.Ranges = l.ranges(s.Family)
	}
}

// ranges puts intervals together. The kernel gives them from the last to the
// first, in whatever order; one that reaches to the last address has no end.
func (l elements) ranges(f fwmark.Family) []netipx.IPRange {
	type bound struct {
		at  netip.Addr
		end bool
	}
	var bounds []bound
	for _, e := range l {
		if at, ok := netip.AddrFromSlice(e.key); ok && fwmark.FamilyOf(at) == f {
			bounds = append(bounds, bound{at, e.end})
		}
	}
	slices.SortFunc(bounds, func(a, b bound) int {
		if c := a.at.Compare(b.at); c != 0 || a.end == b.end {
			return c
		}
		if a.end { // what ends here ends before what begins here
			return -1
		}
		return 1
	})
	last := netipx.PrefixLastIP(netip.PrefixFrom(f.Unspecified(), 0))
	var ranges []netipx.IPRange
	var from netip.Addr
	for _, b := range bounds {
		switch {
		case !b.end:
			from = b.at
		case from.IsValid():
			ranges = append(ranges, netipx.IPRangeFrom(from, b.at.Prev()))
			from = netip.Addr{}
		}
	}
	if from.IsValid() {
		ranges = append(ranges, netipx.IPRangeFrom(from, last))
	}
	return ranges
}
