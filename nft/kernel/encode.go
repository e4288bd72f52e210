package kernel

import (
	"encoding/binary"
	"fmt"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"wg-multihome/fwmark"
	"wg-multihome/nft"
)

// register is the one that all our expressions work in, NFT_REG_1.
const register = 1

// What the library lacks, linux/netfilter/nf_tables.h and nf_conntrack_common.h.
const (
	metaOifKind   = expr.MetaKey(27) // NFT_META_OIFKIND
	ipsConfirmed  = 8                // IPS_CONFIRMED
	ctOriginal    = 0                // IP_CT_DIR_ORIGINAL
	ctReply       = 1                // IP_CT_DIR_REPLY
	ifNameSize    = 16               // IFNAMSIZ
	fibTypeLocal  = unix.RTN_LOCAL
	pseudoHeader  = 1 // NFT_PAYLOAD_L4CSUM_PSEUDOHDR
	inetChecksum  = expr.CsumTypeInet
	ipv4Checksum  = 10 // offset in the header, bytes (RFC 791, 3.1)
	udpDHCPClient = 68
	udpDHCPServer = 67
)

// offsets of an address in the network header, bytes: RFC 791, 3.1 and RFC
// 8200, 3.
var (
	sourceAt      = [2]uint32{fwmark.IPv4: 12, fwmark.IPv6: 8}
	destinationAt = [2]uint32{fwmark.IPv4: 16, fwmark.IPv6: 24}
)

// bootpCiaddr is where BOOTP's ciaddr is behind the UDP header's start, bytes:
// RFC 768 and RFC 2131, 2.
const bootpCiaddr = 8 + 12

// encodeRule returns a rule's expressions as the library has them.
func encodeRule(r nft.Rule) ([]expr.Any, error) {
	var list []expr.Any
	for _, e := range r {
		part, err := encode(e)
		if err != nil {
			return nil, fmt.Errorf("rule %q: %w", r, err)
		}
		list = append(list, part...)
	}
	return list, nil
}

func encode(e nft.Expr) ([]expr.Any, error) {
	switch e.Kind {
	case nft.MetaMark:
		return match(&expr.Meta{Key: expr.MetaKeyMARK, Register: register}, e), nil
	case nft.CtMark:
		return match(&expr.Ct{Key: expr.CtKeyMARK, Register: register}, e), nil
	case nft.SetMetaMark:
		return set(&expr.Meta{Key: expr.MetaKeyMARK, Register: register}, &expr.Meta{Key: expr.MetaKeyMARK, Register: register, SourceRegister: true}, e.Mark), nil
	case nft.SetCtMark:
		return set(&expr.Ct{Key: expr.CtKeyMARK, Register: register}, &expr.Ct{Key: expr.CtKeyMARK, Register: register, SourceRegister: true}, e.Mark), nil
	case nft.Confirmed:
		return []expr.Any{&expr.Ct{Key: expr.CtKeySTATUS, Register: register}, masked(ipsConfirmed, 0), differs(number(0))}, nil
	case nft.Established:
		return []expr.Any{&expr.Ct{Key: expr.CtKeySTATE, Register: register}, masked(expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED, 0), differs(number(0))}, nil
	case nft.Invalid:
		return []expr.Any{&expr.Ct{Key: expr.CtKeySTATE, Register: register}, masked(expr.CtStateBitINVALID, 0), differs(number(0))}, nil
	case nft.Original:
		return []expr.Any{&expr.Ct{Key: expr.CtKeyDIRECTION, Register: register}, equals([]byte{ctOriginal})}, nil
	case nft.Reply:
		return []expr.Any{&expr.Ct{Key: expr.CtKeyDIRECTION, Register: register}, equals([]byte{ctReply})}, nil
	case nft.FromHere:
		return []expr.Any{&expr.Meta{Key: expr.MetaKeyIIF, Register: register}, equals(number(0))}, nil
	case nft.InDevice:
		return []expr.Any{&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: register}, equals(padded(e.Name))}, nil
	case nft.OutDevice:
		return []expr.Any{&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: register}, equals(padded(e.Name))}, nil
	case nft.OutKind:
		// A device without a kind ends the rule, so only `==` can be asked.
		return []expr.Any{&expr.Meta{Key: metaOifKind, Register: register}, equals(padded(e.Name))}, nil
	case nft.TCP:
		return l4proto(unix.IPPROTO_TCP), nil
	default:
		return encodeTCP(e)
	}
}

// encodeTCP is encode's second part: what looks into TCP's header, and for its
// socket. RFC 9293, 3.1 has where the flags are, and the option.
func encodeTCP(e nft.Expr) ([]expr.Any, error) {
	const flagsAt, flagSYN, flagRST = 13, 0x02, 0x04
	switch e.Kind {
	case nft.OfFamily:
		return ofFamily(e.Family), nil
	case nft.SYN:
		return append(l4proto(unix.IPPROTO_TCP),
			&expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Offset: flagsAt, Len: 1},
			&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: 1, Mask: []byte{flagSYN | flagRST}, Xor: []byte{0}},
			equals([]byte{flagSYN})), nil
	case nft.SetMSS:
		const option, sizeAt = 2, 2
		return []expr.Any{
			&expr.Immediate{Register: register, Data: binary.BigEndian.AppendUint16(nil, e.Size)},
			&expr.Exthdr{SourceRegister: register, Type: option, Offset: sizeAt, Len: 2, Op: expr.ExthdrOpTcpopt},
		}, nil
	case nft.UDP:
		return l4proto(unix.IPPROTO_UDP), nil
	case nft.Bound:
		return []expr.Any{&expr.Socket{Key: expr.SocketKeyWildcard, Register: register}, equals([]byte{0})}, nil
	case nft.NoteAsker, nft.AnswerAsker:
		return encodeAsker(e), nil
	case nft.LateAnswer, nft.GuessedAnswer:
		return encodeLate(e), nil
	case nft.HasSocket: // without one the expression ends the rule
		return []expr.Any{&expr.Socket{Key: expr.SocketKeyTransparent, Register: register}, &expr.Cmp{Op: expr.CmpOpLte, Register: register, Data: []byte{1}}}, nil
	}
	return encodeAddress(e)
}

// encodeAddress is encode's third part: what looks at addresses, and what ends a
// rule.
func encodeAddress(e nft.Expr) ([]expr.Any, error) {
	switch e.Kind {
	case nft.From:
		f := fwmark.FamilyOf(e.Prefix.Addr())
		return append(ofFamily(f), address(sourceAt[f], f), equals(e.Prefix.Addr().AsSlice())), nil
	case nft.Translate:
		f := fwmark.FamilyOf(e.Prefix.Addr())
		return []expr.Any{&expr.Immediate{Register: register, Data: e.Prefix.Addr().AsSlice()},
			&expr.NAT{Type: expr.NATTypeSourceNAT, Family: uint32(protocolOf(f)), RegAddrMin: register}}, nil
	case nft.To:
		f := fwmark.FamilyOf(e.Prefix.Addr())
		list := append(ofFamily(f), address(destinationAt[f], f))
		if !e.Prefix.IsSingleIP() {
			list = append(list, &expr.Bitwise{SourceRegister: register, DestRegister: register, Len: uint32(f.Bits() / 8),
				Mask: maskOf(e.Prefix.Bits(), f), Xor: make([]byte, f.Bits()/8)})
		}
		return append(list, equals(e.Prefix.Addr().AsSlice())), nil
	case nft.ToSet:
		return append(ofFamily(e.Family), address(destinationAt[e.Family], e.Family), &expr.Lookup{SourceRegister: register, SetName: e.Name, Invert: e.Not}), nil
	case nft.FromSet:
		return append(ofFamily(e.Family), address(sourceAt[e.Family], e.Family), &expr.Lookup{SourceRegister: register, SetName: e.Name}), nil
	case nft.ToOther:
		return []expr.Any{&expr.Fib{FlagDADDR: true, ResultADDRTYPE: true, Register: register}, differs(number(fibTypeLocal))}, nil
	case nft.FromOther:
		return []expr.Any{&expr.Fib{FlagSADDR: true, FlagOIF: true, ResultADDRTYPE: true, Register: register}, differs(number(fibTypeLocal))}, nil
	case nft.Renewal:
		return append(l4proto(unix.IPPROTO_UDP),
			&expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 4},
			equals([]byte{0, udpDHCPClient, 0, udpDHCPServer}),
			ciaddr(), differs(number(0))), nil
	case nft.SetSource:
		return append(ofFamily(fwmark.IPv4), ciaddr(),
			&expr.Payload{OperationType: expr.PayloadWrite, SourceRegister: register, Base: expr.PayloadBaseNetworkHeader,
				Offset: sourceAt[fwmark.IPv4], Len: 4, CsumType: inetChecksum, CsumOffset: ipv4Checksum, CsumFlags: pseudoHeader}), nil
	case nft.InCgroup:
		return []expr.Any{&expr.Socket{Key: expr.SocketKeyCgroupv2, Level: uint32(e.Level), Register: register}, &expr.Lookup{SourceRegister: register, SetName: e.Name}}, nil
	case nft.Count:
		return []expr.Any{&expr.Objref{Type: unix.NFT_OBJECT_COUNTER, Name: e.Name}}, nil
	case nft.Reset:
		return []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}}, nil
	case nft.Masquerade:
		return []expr.Any{&expr.Masq{}}, nil
	}
	verdict, known := map[nft.Kind]expr.VerdictKind{
		nft.Accept: expr.VerdictAccept, nft.Return: expr.VerdictReturn, nft.Drop: expr.VerdictDrop, nft.Goto: expr.VerdictGoto, nft.Jump: expr.VerdictJump,
	}[e.Kind]
	if !known {
		return nil, fmt.Errorf("expression %d is not known", e.Kind)
	}
	return []expr.Any{&expr.Verdict{Kind: verdict, Chain: e.Name}}, nil
}

// match compares a mark under its mask.
func match(load expr.Any, e nft.Expr) []expr.Any {
	list := []expr.Any{load}
	if e.Mark.Mask != fwmark.FullMask {
		list = append(list, masked(e.Mark.Mask, 0))
	}
	if e.Not {
		return append(list, differs(number(e.Mark.Value)))
	}
	return append(list, equals(number(e.Mark.Value)))
}

// set sets a mark's bits under its mask, and leaves the others.
func set(load, store expr.Any, m fwmark.Mark) []expr.Any {
	if m.Mask == fwmark.FullMask {
		return []expr.Any{&expr.Immediate{Register: register, Data: number(m.Value)}, store}
	}
	return []expr.Any{load, masked(^m.Mask, m.Value), store}
}

// masked is (register & mask) ^ xor.
func masked(mask, xor uint32) expr.Any {
	return &expr.Bitwise{SourceRegister: register, DestRegister: register, Len: 4, Mask: number(mask), Xor: number(xor)}
}

func equals(data []byte) expr.Any {
	return &expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: data}
}
func differs(data []byte) expr.Any {
	return &expr.Cmp{Op: expr.CmpOpNeq, Register: register, Data: data}
}

func number(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }

func padded(name string) []byte { return append([]byte(name), make([]byte, ifNameSize-len(name))...) }

func protocolOf(f fwmark.Family) byte {
	if f == fwmark.IPv6 {
		return unix.NFPROTO_IPV6
	}
	return unix.NFPROTO_IPV4
}

func ofFamily(f fwmark.Family) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: register}, equals([]byte{protocolOf(f)})}
}

func l4proto(proto byte) []expr.Any {
	return []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: register}, equals([]byte{proto})}
}

func ciaddr() expr.Any {
	return &expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Offset: bootpCiaddr, Len: 4}
}

func address(offset uint32, f fwmark.Family) expr.Any {
	return &expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: uint32(f.Bits() / 8)}
}

// maskOf returns a netmask of that many bits.
func maskOf(bits int, f fwmark.Family) []byte {
	mask := make([]byte, f.Bits()/8)
	for i := range bits {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return mask
}
