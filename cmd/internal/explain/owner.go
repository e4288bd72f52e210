package explain

import (
	"fmt"
	"slices"

	"wg-multihome/cmd/internal/decide"
	"wg-multihome/fwmark"
	"wg-multihome/policy"
)

// Tables that programs of others are known by: what their source code has, and
// their rules show on hosts.
const (
	tableTailscale  = 52
	tableMullvad    = 1836018789
	tableCloudflare = 65743
)

// owner names whose rule it is, "" where that is not known: by its protocol number,
// its form and its table.
func owner(d decide.Decision, r policy.Rule) string {
	switch {
	case r.Ours():
		return "ours"
	case r.Protocol == policy.ProtocolKernel:
		return "the kernel"
	case r.Priority >= 5210 && r.Priority <= 5270 && (r.Table == tableTailscale || r.Mark.Mask == 0xff0000):
		return "Tailscale"
	case r.Table == tableMullvad && r.Action == policy.Lookup:
		return "Mullvad"
	case r.Table == tableCloudflare && r.Action == policy.Lookup:
		return "Cloudflare WARP"
	}
	if device := fullTunnelOf(d, r); device != "" {
		return "wg-quick, for " + device
	}
	switch name := policy.ProtocolName(r.Protocol); {
	case r.Protocol == policy.ProtocolStatic:
		return "networkd or NetworkManager (proto static)"
	case r.Protocol != policy.ProtocolUnspec && r.Protocol != policy.ProtocolBoot: // those are anybody's
		return name
	case r.Action == policy.Lookup && r.Table == policy.TableMain && r.Suppresses && r.Suppress == 0 && r.Mark.Mask == 0 && len(d.Tunnels) > 0:
		return "wg-quick"
	}
	return ""
}

// fullTunnelOf returns the full tunnel that a rule `not fwmark F lookup T` is of.
func fullTunnelOf(d decide.Decision, r policy.Rule) string {
	if !r.Invert || r.Action != policy.Lookup {
		return ""
	}
	i := slices.IndexFunc(d.Tunnels, func(t fwmark.Tunnel) bool { return t.Mark == r.Mark })
	if i < 0 {
		return ""
	}
	return d.Tunnels[i].Device
}

// numbered names a rule in a sentence.
func numbered(r policy.Rule) string { return fmt.Sprintf("rule %d", r.Priority) }
