package wg_test

import (
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"wg-multihome/wg"
)

func base64Key(k wg.Key) string { return base64.StdEncoding.EncodeToString(k[:]) }

// services are those of services(5).
func services(name string) (uint16, bool) {
	port, ok := map[string]uint16{"https": 443, "nothing": 0}[name]
	return port, ok
}

// private is a private key; no error may show a part of it.
var private = strings.Repeat("Zm9v", 10) + "Zm8="

func show(f wg.File) string {
	s := fmt.Sprintf("mark %#x table %q save %t\n", f.Mark, f.Table, f.Save)
	keys := slices.SortedFunc(maps.Keys(f.Peers), func(a, b wg.Key) int { return strings.Compare(a.String(), b.String()) })
	for _, k := range keys {
		e := f.Peers[k]
		s += fmt.Sprintf("%s %q %v %d line %d\n", k, e.Host, e.Addr, e.Port, e.Line)
	}
	return s
}

func TestParseFile(t *testing.T) {
	text := `# of wg-quick
[Interface]
PrivateKey = ` + private + `
Address = 10.0.0.1/24, fd00::1/64 # ours
ListenPort=51820
PostUp = ip rule add x; echo "a = b" # [Peer]
SaveConfig = true
fwmark = 0x2005
Table = off
Mystery = 7

[peer] # the first
PublicKey = ` + base64Key(key(1)) + `
PresharedKey = ` + private + `
AllowedIPs = 0.0.0.0/0, ::/0
Endpoint = vpn.example.org:51820
PersistentKeepalive = 25
[Peer]
publickey=` + base64Key(key(2)) + `
ENDPOINT=[2001:db8::1]:7` + "\r" + `
[Peer]
PublicKey = ` + base64Key(key(3)) + `
[Peer]
PublicKey = ` + base64Key(key(4)) + `
Endpoint = 203.0.113.1:65535
[Peer]
PublicKey = ` + base64Key(key(1)) + `
AllowedIPs = 10.0.0.0/8
[Peer]
PublicKey = ` + base64Key(key(4)) + `
Endpoint = dual-stack_1.example.:9`
	f, err := wg.ParseFile("wg0.conf", []byte(text), services)
	want := `mark 0x2005 table "off" save true
AQIDBAUG "vpn.example.org" invalid IP 51820 line 16
AgMEBQYH "" 2001:db8::1 7 line 20
AwQFBgcI "" invalid IP 0 line 0
BAUGBwgJ "dual-stack_1.example." invalid IP 9 line 31
`
	if got := show(f); err != nil || got != want {
		t.Errorf("%v, got\n%s\nwant\n%s", err, got, want)
	}
	for text, want := range map[string]string{
		// Blanks count for nothing, and wg-quick takes these words in any case.
		"[ Interface ]\nFw Mark = 0x 20 05\nSaveConfig = True\nTable = \n":                     "mark 0x2005 table \"\" save true\n",
		"[Interface]\nSaveConfig = FALSE\nTable = Off":                                         "mark 0x0 table \"Off\" save false\n",
		"[ Peer ]\nPublic Key = " + base64Key(key(1)) + "\nEndpoint = vpn.example.org : https": "mark 0x0 table \"\" save false\nAQIDBAUG \"vpn.example.org\" invalid IP 443 line 3\n",
		"[Peer]\nPublicKey=" + base64Key(key(1)) + "\nEndpoint=[ vpn.example.org ] : 51820":    "mark 0x0 table \"\" save false\nAQIDBAUG \"vpn.example.org\" invalid IP 51820 line 3\n",
		"[Peer]\nPublicKey=" + base64Key(key(1)) + "\nEndpoint=[203.0.113.1]:https":            "mark 0x0 table \"\" save false\nAQIDBAUG \"\" 203.0.113.1 443 line 3\n",
		"[Peer]\nPublicKey=" + base64Key(key(1)) + "\nEndpoint=2001:db8::1:7":                  "mark 0x0 table \"\" save false\nAQIDBAUG \"\" 2001:db8::1 7 line 3\n",
		"":                               "mark 0x0 table \"\" save false\n",
		"[Interface]\nFwMark = off":      "mark 0x0 table \"\" save false\n",
		"[Interface]\nFwMark = Off":      "mark 0x0 table \"\" save false\n",
		"[Interface]\nFwMark = 051820":   "mark 0xca6c table \"\" save false\n", // no octal to wg(8)
		"[Interface]\nFwMark = 51820":    "mark 0xca6c table \"\" save false\n",
		"[Interface]\nSaveConfig=false#": "mark 0x0 table \"\" save false\n",
		// To wg(8) these are addresses; looked up, they would become some name's.
		"[Peer]\nPublicKey=" + base64Key(key(1)) + "\nEndpoint=1.2.3:4":         "mark 0x0 table \"\" save false\nAQIDBAUG \"\" invalid IP 4 line 3\n",
		"[Peer]\nPublicKey=" + base64Key(key(1)) + "\nEndpoint=0x7f.1:4":        "mark 0x0 table \"\" save false\nAQIDBAUG \"\" invalid IP 4 line 3\n",
		"[Peer]\nPublicKey=" + base64Key(key(1)) + "\nEndpoint=3405803777:4":    "mark 0x0 table \"\" save false\nAQIDBAUG \"\" invalid IP 4 line 3\n",
		"[Peer]\nPublicKey=" + base64Key(key(1)) + "\nEndpoint=1.2.3.example:4": "mark 0x0 table \"\" save false\nAQIDBAUG \"1.2.3.example\" invalid IP 4 line 3\n",
	} {
		if f, err := wg.ParseFile("x", []byte(text), services); err != nil || show(f) != want {
			t.Errorf("%q: %v\n%s", text, err, show(f))
		}
	}
}

func TestParseFileRefuses(t *testing.T) {
	peer := "[Interface]\n\n[Peer]\nPublicKey = " + base64Key(key(1)) + "\n"
	for text, say := range map[string]string{
		"PrivateKey = " + private:                       "line 1: stands before the first section",
		"[Interface]\n" + private[:40]:                  "line 2: is neither a section nor KEY = VALUE",
		"[Interface]\n\n[Network]":                      "line 3: is a section that is neither",
		"[Interface]\nFwMark = 0x1ffffffff":             `line 2: FwMark = "0x1ffffffff"`,
		"[Interface]\nFwMark = 0b1":                     "line 2: FwMark",
		"[Interface]\nFwMark = 0x":                      "line 2: FwMark",
		"[Interface]\nFwMark = 5_000":                   "line 2: FwMark",
		"[Interface]\nFwMark = mark":                    "line 2: FwMark",
		"[Interface]\nFwMark = " + private:              "line 2: FwMark",
		peer + "Endpoint = " + private:                  "line 5: Endpoint",
		"[Interface]\nSaveConfig = yes":                 "line 2: SaveConfig",
		"[Peer]\nPublicKey = " + private[:40]:           "line 2: PublicKey is no key",
		"[Peer]\nPublicKey = ":                          "line 2: PublicKey is no key",
		"[Peer]\nEndpoint = a:1":                        "line 1: is a [Peer] without a PublicKey",
		"[Peer]\n[Peer]\nPublicKey=":                    "line 1: is a [Peer] without a PublicKey; line 3: PublicKey is no key",
		peer + "Endpoint = vpn.example.org":             "line 5: Endpoint",
		peer + "Endpoint = vpn.example.org:":            "line 5: Endpoint",
		peer + "Endpoint = vpn.example.org:0":           "line 5: Endpoint",
		peer + "Endpoint = vpn.example.org:65536":       "line 5: Endpoint",
		peer + "Endpoint = :51820":                      "line 5: Endpoint",
		peer + "Endpoint = [vpn.example.org]1":          "line 5: Endpoint",
		peer + "Endpoint = []:1":                        "line 5: Endpoint",
		peer + "Endpoint = vpn.example.org:gopher":      "line 5: Endpoint",
		peer + "Endpoint = vpn.example.org:nothing":     "line 5: Endpoint",
		peer + "Endpoint = vpn.example.org:-1":          "line 5: Endpoint",
		peer + "Endpoint vpn.example.org:1":             "line 5: is neither a section nor KEY = VALUE",
		strings.Repeat("x\n", 9):                        "line 1: is neither a section nor KEY = VALUE; line 2: is neither a section nor KEY = VALUE; line 3",
		peer + "Endpoint = [2001:db8::1:1":              "line 5: Endpoint",
		peer + "Endpoint = $(reboot):1":                 "line 5: Endpoint",
		peer + "Endpoint = a\x1b[1m:1":                  "line 5: Endpoint",
		peer + "Endpoint = \xff:1":                      "line 5: Endpoint",
		peer + "Endpoint = " + strings.Repeat("a", 255): "line 5: Endpoint",
		"[Interface]\n" + strings.Repeat("x", 70000):    "line 2: is longer than",
	} {
		f, err := wg.ParseFile("/etc/wireguard/wg0.conf", []byte(text), services)
		if err == nil || !strings.HasPrefix(err.Error(), "/etc/wireguard/wg0.conf: "+say) {
			t.Errorf("%.60q: %v", text, err)
		}
		if err != nil && strings.Contains(err.Error(), private[:8]) {
			t.Errorf("a key in %v", err)
		}
		if len(f.Peers) != 0 {
			t.Errorf("%.60q: a refused peer says %v", text, f)
		}
	}
}

// TestParseFileLosesOnePeer: a bad line takes the peer that it stands in, and
// neither the others nor what the device's own section says.
func TestParseFileLosesOnePeer(t *testing.T) {
	peer := func(n byte, endpoint string) string {
		return "[Peer]\nPublicKey = " + base64Key(key(n)) + "\n" + endpoint + "\n"
	}
	f, err := wg.ParseFile("wg0.conf", []byte("stray\n[Interface]\nFwMark = 0x2005\nListenPort\nSaveConfig = yes\nTable = off\n"+
		peer(1, "Endpoint = a.example:1")+peer(2, "Endpoint = b.example")+peer(3, "Endpoint = c.example:3")+
		"[Network]\nEndpoint = d.example:4\n"+peer(5, "nonsense")+peer(6, strings.Repeat("y", 70000))+peer(7, "Endpoint = [2001:db8::7]:7")), services)
	want := `mark 0x2005 table "off" save false
AQIDBAUG "a.example" invalid IP 1 line 9
AwQFBgcI "c.example" invalid IP 3 line 15
BwgJCgsM "" 2001:db8::7 7 line 26
`
	if got := show(f); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	const say = `wg0.conf: line 1: is neither a section nor KEY = VALUE; line 4: is neither a section nor KEY = VALUE; ` +
		`line 5: SaveConfig = "yes" is neither true nor false; line 12: Endpoint = "b.example" is not HOST:PORT; ` +
		`line 16: is a section that is neither [Interface] nor [Peer]; and 2 more lines`
	if err == nil || err.Error() != say {
		t.Errorf("got  %v\nwant %s", err, say)
	}
}

func FuzzParseFile(f *testing.F) {
	f.Add("[Interface]\nPrivateKey = " + private + "\nFwMark = 0x2005\nTable = off\nSaveConfig = true\n[Peer]\nPublicKey = " + base64Key(key(1)) + "\nEndpoint = [2001:db8::1]:1")
	f.Add("[ Interface ]\nTable =\nSaveConfig = True\n[ Peer ]\nPublicKey = " + base64Key(key(1)) + "\nEndpoint = [vpn.example] : https\nnonsense\n[Peer]")
	f.Add("[Interface]\n[Peer]\nPublicKey = " + base64Key(key(1)) + "\nEndpoint = vpn.example.org:51820\n# x")
	f.Fuzz(func(t *testing.T, text string) {
		file, err := wg.ParseFile("file", []byte(text), services)
		if err != nil && (!strings.HasPrefix(err.Error(), "file: line ") || len(err.Error()) > 2000) {
			t.Errorf("%q: the error names no line, or too many: %v", text, err)
		}
		for _, e := range file.Peers {
			if named := e.Host != ""; named && e.Addr.IsValid() || named && e.Port == 0 || strings.ContainsAny(e.Host, " \t\n:/[]") {
				t.Errorf("%q: endpoint %+v", text, e)
			}
		}
	})
}
