package config

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"wg-multihome/fwmark"
	"wg-multihome/fwmark/regular"
)

// peersFolder is where pppd(8) has its providers.
const peersFolder = "/etc/ppp/peers"

// pppName is a name that pppd gives.
var pppName = regexp.MustCompile(`^ppp[0-9]{1,5}$`)

// maxUnit is more than any unit that there is.
const maxUnit = 99999

// pppDevice returns the device of a ppp stanza, whose name is that of a provider
// or free, and why it is that one: the stanza's `unit`; the unit, or the name
// (`ifname`), that the provider's file says; the stanza's own name where it is
// one of pppd's; and ppp0, the first that pppd gives.
func (i ifupdownFiles) pppDevice(name string, options []option) (device, why string) {
	provider := "provider" // pon(1)'s own
	for _, o := range options {
		switch o.key {
		case "unit":
			if device := unitName(o.value); device != "" {
				return device, "the stanza says unit " + strings.TrimSpace(o.value)
			}
		case "provider", "ppp-provider":
			if words := strings.Fields(o.value); len(words) > 0 {
				provider = words[0]
			}
		}
	}
	path := filepath.Join(i.peers, filepath.Join("/", provider)) // as pppd, no file elsewhere
	text, err := regular.Read(path, maxFile)
	unit, given := peer(string(text))
	switch {
	case given != "":
		return given, path + " says ifname"
	case unit != "":
		return unit, path + " says its unit"
	case pppName.MatchString(name):
		return name, ""
	case err != nil:
		return "ppp0", fmt.Sprintf("%s cannot be read, and the stanza says no unit", path)
	}
	return "ppp0", fmt.Sprintf("neither the stanza nor %s says a unit", path)
}

// peer reads a file of pppd's options: words, with comments from a `#` on.
func peer(text string) (unit, name string) {
	for _, line := range strings.Split(text, "\n") {
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		for n, w := range words[:max(len(words)-1, 0)] {
			value := strings.Trim(words[n+1], `"'`)
			switch {
			case w == "unit":
				unit = unitName(value)
			case w == "ifname" && fwmark.ValidName(value) == nil:
				name = value
			}
		}
	}
	return unit, name
}

func unitName(value string) string {
	n, err := strconv.Atoi(strings.TrimSpace(value))
	if err != nil || n < 0 || n > maxUnit {
		return ""
	}
	return fmt.Sprintf("ppp%d", n)
}
