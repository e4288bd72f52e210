package kernel

import (
	"fmt"

	"golang.org/x/sys/unix"

	"wg-multihome/fwmark/nlsock"
	"wg-multihome/nft"
)

// Read returns what stands in the table.
func (c *Client) Read() (nft.State, error) {
	s := nft.State{Counters: map[string]uint64{}, Sets: map[string]nft.Set{}, Chains: map[string]nft.ChainState{}}
	for _, part := range []struct {
		what    string
		kind    uint16
		request []byte
		add     func(message) error
	}{
		{"tables", unix.NFT_MSG_GETTABLE, nil, func(m message) error { return m.table(&s) }},
		{"chains", unix.NFT_MSG_GETCHAIN, nil, func(m message) error { return m.chain(&s) }},
		{"rules", unix.NFT_MSG_GETRULE, ours(unix.NFTA_RULE_TABLE), func(m message) error { return m.rule(&s) }},
		{"counters", unix.NFT_MSG_GETOBJ, ours(unix.NFTA_OBJ_TABLE), func(m message) error { return m.counter(&s) }},
		{"sets", unix.NFT_MSG_GETSET, ours(unix.NFTA_SET_TABLE), func(m message) error { return m.set(&s) }},
	} {
		if err := c.dump(part.kind, part.request, part.add); err != nil {
			return s, explained("read nftables' "+part.what, err)
		}
		if !s.Exists {
			return s, nil
		}
	}
	for name, set := range s.Sets {
		if set.Type == nft.Askers || set.Type == nft.Answers { // what they hold for a while tells nothing
			continue
		}
		elements, err := c.elements(name)
		if err != nil {
			return s, err
		}
		elements.into(&set)
		s.Sets[name] = set
	}
	return s, nil
}

// elements returns those of a set of our table.
func (c *Client) elements(set string) (list elements, err error) {
	request := append(word(unix.NFTA_SET_ELEM_LIST_TABLE, nft.Table), word(unix.NFTA_SET_ELEM_LIST_SET, set)...)
	if err := c.dump(unix.NFT_MSG_GETSETELEM, request, func(m message) error { return m.elements(&list) }); err != nil {
		return nil, explained(fmt.Sprintf("read nftables' set %s", set), err)
	}
	return list, nil
}

// handed gives an answer to add, where it is about our table.
func handed(data []byte, add func(message) error) error {
	const header = 4 // struct nfgenmsg
	if len(data) < header {
		return nlsock.ErrShort
	}
	if data[0] != unix.NFPROTO_INET {
		return nil
	}
	return add(data[header:])
}

// ours asks for what is in our table alone: a firewall may have thousands of
// rules. Chains cannot be asked for so (nf_tables_dump_chains).
func ours(kind uint16) []byte { return word(kind, nft.Table) }
