package kernel

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"wg-multihome/fwmark"
	"wg-multihome/nft"
)

// late adds a set of answers to what conntrack has forgotten.
func (x tx) late(s nft.Set) {
	address := addressType(s.Family)
	x.add(unix.NFT_MSG_NEWSET, unix.NLM_F_CREATE, word(unix.NFTA_SET_TABLE, nft.Table), word(unix.NFTA_SET_NAME, s.Name),
		number32(unix.NFTA_SET_FLAGS, lateFlags), number32(unix.NFTA_SET_KEY_TYPE, lateKeyType(address)),
		number32(unix.NFTA_SET_KEY_LEN, 8*(words(s.Family)+1)), nest(unix.NFTA_SET_DESC, number32(unix.NFTA_SET_DESC_SIZE, nft.AskersMax)),
		attribute(unix.NFTA_SET_TIMEOUT, binary.BigEndian.AppendUint64(nil, uint64(nft.LateTime.Milliseconds()))),
		number32(unix.NFTA_SET_ID, x.count))
}

// lateFlags are those of such a set.
const lateFlags = unix.NFT_SET_TIMEOUT | unix.NFT_SET_EVAL

// lateKeyType is the data type of its key: an address and a port, twice.
func lateKeyType(address uint32) uint32 {
	end := address<<typeBits | typeService
	return end<<(2*typeBits) | end
}

// encodeLate encodes what looks an answer up, and notes it again.
func encodeLate(e nft.Expr) []expr.Any {
	f := e.Family
	length := uint32(f.Bits() / 8)
	to := firstWord + words(f) + 1
	return append(append(ofFamily(f), l4proto(unix.IPPROTO_UDP)...),
		load(firstWord, expr.PayloadBaseNetworkHeader, sourceAt[f], length),
		load(to-1, expr.PayloadBaseTransportHeader, sourcePort, 2),
		load(to, expr.PayloadBaseNetworkHeader, destinationAt[f], length),
		load(to+words(f), expr.PayloadBaseTransportHeader, destinationPort, 2),
		&expr.Lookup{SourceRegister: firstWord, SetName: e.Name},
		&expr.Dynset{SrcRegKey: firstWord, SetName: e.Name, Operation: unix.NFT_DYNSET_OP_UPDATE})
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
	var key []byte
	for _, end := range []netip.AddrPort{l.From, l.To} {
		key = append(key, end.Addr().AsSlice()...)
		key = append(binary.BigEndian.AppendUint16(key, end.Port()), 0, 0)
	}
	return key
}
