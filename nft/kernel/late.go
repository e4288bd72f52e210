package kernel

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"wg-multihome/fwmark"
	"wg-multihome/nft"
)

// late adds a set of answers to what conntrack has forgotten.
func (x tx) late(s nft.Set) {
	address := uint32(typeIPv4)
	if s.Family == fwmark.IPv6 {
		address = typeIPv6
	}
	x.add(unix.NFT_MSG_NEWSET, unix.NLM_F_CREATE, word(unix.NFTA_SET_TABLE, nft.Table), word(unix.NFTA_SET_NAME, s.Name),
		number32(unix.NFTA_SET_FLAGS, unix.NFT_SET_TIMEOUT), number32(unix.NFTA_SET_KEY_TYPE, askersKey(address)),
		number32(unix.NFTA_SET_KEY_LEN, 4*(words(s.Family)+2)),
		attribute(unix.NFTA_SET_TIMEOUT, binary.BigEndian.AppendUint64(nil, uint64(nft.LateTime.Milliseconds()))),
		number32(unix.NFTA_SET_ID, x.count))
}

// Expect has answers be dropped as they arrive, for nft.LateTime from now on. The table
// has to have its part for services: without that it is an error, unix.ENOENT.
func (c *Client) Expect(list []nft.Late) error {
	elements := [2][]element{}
	for _, l := range list {
		f := fwmark.FamilyOf(l.From.Addr())
		elements[f] = append(elements[f], element{key: lateKey(l)})
	}
	x := tx{newBatch()}
	for _, f := range fwmark.Families {
		x.change(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE, nft.LateSet(f), elements[f])
	}
	if x.count == 1 { // nothing but its begin
		return nil
	}
	if err := x.send(c.socket); err != nil {
		return fmt.Errorf("expect %d late answers: %w", len(list), err)
	}
	return nil
}

// lateKey is the key of an element: each field lies in whole words of 32 bits.
func lateKey(l nft.Late) []byte {
	key := l.From.Addr().AsSlice()
	for _, port := range []uint16{l.From.Port(), l.Port} {
		key = append(binary.BigEndian.AppendUint16(key, port), 0, 0)
	}
	return key
}
