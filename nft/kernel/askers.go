package kernel

import (
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"wg-multihome/fwmark"
	"wg-multihome/nft"
)

// firstWord is NFT_REG32_00: a key of several fields lies in registers of 32 bits, one
// behind the other, each field in whole ones.
const firstWord = 8

// Where UDP has its ports (RFC 768).
const sourcePort, destinationPort = 0, 2

// words is how many of them an address takes.
func words(f fwmark.Family) uint32 { return uint32(f.Bits() / 32) }

// encodeAsker encodes what is about the map of those who ask by UDP.
func encodeAsker(e nft.Expr) []expr.Any {
	f := e.Family
	value := firstWord + words(f) + 2 // behind the key
	note := func(otherAddress uint32) []expr.Any {
		return []expr.Any{load(value, expr.PayloadBaseNetworkHeader, otherAddress, uint32(f.Bits()/8)),
			&expr.Dynset{SrcRegKey: firstWord, SrcRegData: value, SetName: e.Name, Operation: unix.NFT_DYNSET_OP_UPDATE}}
	}
	if e.Kind == nft.NoteAsker {
		return append(key(f, sourceAt[f], sourcePort, destinationPort), note(destinationAt[f])...)
	}
	write := &expr.Payload{OperationType: expr.PayloadWrite, SourceRegister: value, Base: expr.PayloadBaseNetworkHeader,
		Offset: sourceAt[f], Len: uint32(f.Bits() / 8), CsumFlags: pseudoHeader}
	if f == fwmark.IPv4 { // IPv6 has no checksum of its own
		write.CsumType, write.CsumOffset = inetChecksum, ipv4Checksum
	}
	list := append(key(f, destinationAt[f], destinationPort, sourcePort),
		&expr.Lookup{SourceRegister: firstWord, SetName: e.Name, DestRegister: value, IsDestRegSet: true}, write)
	return append(list, note(sourceAt[f])...)
}

// key loads the key of such a map: the other side's address and port, and ours.
func key(f fwmark.Family, addressAt, port, ownPort uint32) []expr.Any {
	behind := firstWord + words(f)
	return append(append(ofFamily(f), l4proto(unix.IPPROTO_UDP)...),
		load(firstWord, expr.PayloadBaseNetworkHeader, addressAt, uint32(f.Bits()/8)),
		load(behind, expr.PayloadBaseTransportHeader, port, 2),
		load(behind+1, expr.PayloadBaseTransportHeader, ownPort, 2))
}

func load(to uint32, base expr.PayloadBase, offset, length uint32) expr.Any {
	return &expr.Payload{DestRegister: to, Base: base, Offset: offset, Len: length}
}
