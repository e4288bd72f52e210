package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

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
	list := append(append(ofFamily(f), l4proto(unix.IPPROTO_UDP)...),
		load(firstWord, expr.PayloadBaseNetworkHeader, sourceAt[f], length),
		load(to-1, expr.PayloadBaseTransportHeader, sourcePort, 2),
		load(to, expr.PayloadBaseNetworkHeader, destinationAt[f], length),
		load(to+words(f), expr.PayloadBaseTransportHeader, destinationPort, 2),
		&expr.Lookup{SourceRegister: firstWord, SetName: e.Name})
	if e.Kind == nft.GuessedAnswer {
		return list
	}
	return append(list, &expr.Dynset{SrcRegKey: firstWord, SetName: e.Name, Operation: unix.NFT_DYNSET_OP_UPDATE})
}

// Expect has answers be dropped as they arrive, for nft.LateTime from now on: one that
// is dropped already, as well. The table has to have its part for services: without that
// it is an error, unix.ENOENT.
func (c *Client) Expect(list []nft.Late) error {
	sets := map[string][]element{}
	for _, l := range list {
		sets[l.Set()] = append(sets[l.Set()], element{key: lateKey(l)})
	}
	names := slices.Sorted(maps.Keys(sets))
	slices.Reverse(names) // guessed ones last: they may be too many
	var errs []error
	for _, set := range names {
		if err := c.expect(set, sets[set]); err != nil {
			errs = append(errs, fmt.Errorf("expect %d late answers: %w", len(sets[set]), err))
		}
	}
	return errors.Join(errs...)
}

// expect adds elements to a set, and renews those that there are.
//
// An element that is added again keeps its old time, so it is deleted first, in the same
// transaction. That fails where it expires in between, or where the set has no room for
// both; then it is only added, and keeps its old time.
func (c *Client) expect(set string, list []element) error {
	const tries = 3
	for range tries {
		stands, err := c.elements(set)
		if err != nil {
			return err
		}
		x := tx{newBatch()}
		x.change(unix.NFT_MSG_DELSETELEM, 0, set, both(list, stands))
		x.change(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE, set, list)
		if x.send(c.socket) == nil {
			return nil
		}
	}
	x := tx{newBatch()}
	x.change(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE, set, list)
	return x.send(c.socket)
}

// both returns the elements that are in two lists.
func both(a, b []element) (list []element) {
	in := map[string]bool{}
	for _, e := range b {
		in[string(e.key)] = true
	}
	for _, e := range a {
		if in[string(e.key)] {
			list = append(list, e)
			delete(in, string(e.key))
		}
	}
	return list
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
