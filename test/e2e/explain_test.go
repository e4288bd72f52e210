package e2e

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	"wg-multihome/test/lab"
)

// explained is what `explain --json` says, as far as tests ask.
type explained struct {
	Explanations []struct {
		Packet struct{ What string }
		Notes  []string
		Lock   string
		Source string
		Kernel struct {
			Agrees bool
			Text   string
		}
		Verdict struct {
			Outcome, Device, Why, Mend string
			Own                        bool
		}
	}
}

func explain(t *testing.T, l *lab.Lab, args ...string) explained {
	t.Helper()
	r := l.MH(append([]string{"explain", "--json"}, args...)...)
	if r.Code != 0 {
		t.Fatalf("explain %v: exit status %d\n%s%s", args, r.Code, r.Stdout, r.Stderr)
	}
	return explainedBy(t, r.Stdout)
}

// askBound asks far by UDP from a socket that is bound to a device, and prints what far
// saw.
const askBound = `import socket, sys
dst, device = sys.argv[1:]
for _ in range(3):
    s = socket.socket(socket.AF_INET6 if ":" in dst else socket.AF_INET, socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
    s.settimeout(1)
    try:
        s.connect((dst, 7)); s.send(b"?"); print(s.recv(100).decode(), end=""); break
    except OSError as e:
        last = e
else:
    print("error:", last)
`

// addresses of the lab's uplinks, by device and by "." or ":".
var addresses = map[string]map[string]string{"up1": {".": one4, ":": one6}, "up2": {".": two4, ":": two6}}

// explainedBy reads what a command has said.
func explainedBy(t *testing.T, text string) explained {
	t.Helper()
	var e explained
	if err := json.Unmarshal([]byte(wantValid(t, "explain", text)), &e); err != nil || len(e.Explanations) == 0 {
		t.Fatalf("%v\n%s", err, text)
	}
	return e
}

// wantAsExplained explains a packet, and sends it.
func wantAsExplained(t *testing.T, l *lab.Lab, change, far string, args []string, send func() string) {
	t.Helper()
	wantSent(t, change+"; "+strings.Join(args, " "), far, explain(t, l, append(args, "--proto", "udp", "--to-port", "7", far)...), send)
}

// wantSent sends a packet, and compares what far saw with what was said of it before:
// its device and its source, which the routers drop where they do not go together, or
// that nothing leaves.
func wantSent(t *testing.T, what, far string, said explained, send func() string) {
	t.Helper()
	e := said.Explanations[0]
	kind := "."
	if strings.Contains(far, ":") {
		kind = ":"
	}
	source, _, _ := strings.Cut(e.Source, ",")
	want := "error: "
	neighbour := strings.Contains(e.Verdict.Why, "a neighbour on the link") // which no neighbour is
	if e.Verdict.Outcome == "leaves" && !neighbour && addresses[e.Verdict.Device][kind] == source {
		want = source
	}
	got := send()
	if got != want && !(want == "error: " && strings.HasPrefix(got, "error:")) {
		t.Errorf("%s to %s: far saw %q, want %q, as explained: %+v", what, far, got, want, e)
	}
}

// repair takes back whatever of the changes is there.
const repair = `set +e
exec 2>/dev/null
ip rule del pref 100; ip rule del pref 90; ip route flush table 98; ip route flush table 99
for r in 203.0.113.0/24 0.0.0.0/1 128.0.0.0/1; do ip route del $r; done
ip route del unreachable 203.0.113.0/24; ip -6 route del 2001:db8:f::/64
ip addr add 198.51.100.10/24 dev up2; ip addr add 2001:db8:2::10/64 dev up2 nodad
ip route replace default via 198.51.100.1 dev up2 metric 2; ip route replace default via 2001:db8:2::1 dev up2 metric 2
true`

// TestExplainAsPacketsGo changes a host at random, and each time compares what is
// explained with where real packets come out: of marks, sources, devices, a service
// and a process, in both families. The kernel's own look-up has to agree each time.
func TestExplainAsPacketsGo(t *testing.T) {
	l := newLab(t)
	l.Static()
	service := l.MakeCgroup("a.service")
	l.Interfaces(pinned + "\tmultihomed-cgroup " + service + "\niface up3 inet dhcp\n\tmultihomed-fwmark 0x2006\n")
	l.MustMH("sync")
	changes := []string{
		"true",
		"ip rule flush; ip rule add pref 32766 lookup main",
		"ip rule del pref 32754; ip -6 rule del pref 32753",
		"ip route replace 203.0.113.0/24 via 192.0.2.1 dev up1",
		"ip -6 route replace 2001:db8:f::/64 via 2001:db8:1::1 dev up1",
		"ip route add 0.0.0.0/1 via 192.0.2.1 dev up1; ip route add 128.0.0.0/1 via 192.0.2.1 dev up1",
		"ip rule add pref 100 not fwmark 0xca6c lookup 99; ip route add default via 192.0.2.1 dev up1 table 99",
		"ip rule add pref 90 to 203.0.113.0/24 ipproto udp dport 7 lookup 98; ip route add default via 198.51.100.1 dev up2 table 98",
		"ip route add unreachable 203.0.113.0/24",
		"ip link set up2 down; ip link set up2 up",
		"ip addr del 198.51.100.10/24 dev up2",
		"nft delete table inet wg_multihome",
	}
	r := rand.New(rand.NewPCG(15, 1))
	for range 14 {
		change := changes[r.IntN(len(changes))]
		l.Script("set +e; " + change + "; true")
		if r.IntN(2) == 0 {
			l.MH("sync") // where nothing can mend it, it fails
		}
		for _, far := range []string{lab.Far4, lab.Far6} {
			for _, mark := range []uint32{0, 0x2005, 0x2006, 0x99} {
				wantAsExplained(t, l, change, far, []string{"--mark", fmt.Sprint(mark)}, func() string { return l.Ask(lab.Query{Network: "udp", Far: far, Mark: mark}) })
			}
			for device := range addresses {
				wantAsExplained(t, l, change, far, []string{"--device", device}, func() string {
					return strings.TrimSpace(l.Run("python3", "-c", askBound, far, device))
				})
				source := addresses[device][map[bool]string{true: ":", false: "."}[far == lab.Far6]]
				if strings.Contains(l.Run("ip", "-br", "addr"), source+"/") {
					wantAsExplained(t, l, change, far, []string{"--from", source}, func() string { return l.Ask(lab.Query{Network: "udp", Far: far, Source: source}) })
				}
			}
			asked := func() string { return l.Ask(lab.Query{Network: "udp", Far: far, Cgroup: service}) }
			wantAsExplained(t, l, change, far, []string{"--service", service}, asked)
			procs := filepath.Join(l.CgroupDir(service), "cgroup.procs")
			wantSent(t, change, far, explainedBy(t, l.Run("sh", "-euc", `echo $$ >"$1"; exec "$0" explain --json --pid $$ --proto udp --to-port 7 "$2"`, l.Binary, procs, far)), asked)
		}
		if t.Failed() {
			t.Fatalf("after %q:\n%s", change, l.State())
		}
		l.Script(repair)
		l.MustMH("sync")
	}
}

// TestExplainSaysWhatToType has it say why a packet is refused and what mends it,
// and the exit statuses.
func TestExplainSaysWhatToType(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Interfaces(pinned)
	l.MustMH("sync")
	wantCode(t, l.MH("explain", "--exit-code", "--mark", "0x2005", lab.Far4), 0)
	l.Script(rulesGone)
	gone := l.MH("explain", "--exit-code", "--mark", "0x2005", lab.Far4)
	wantCode(t, gone, 3)
	wantPart(t, "explain without rules", gone.Stdout, "\nwhy       the mark's rules are gone, and the second lock holds it\nmend      wg-multihome sync\n")
	l.MustMH("sync")
	l.Run("ip", "link", "set", "up2", "down")
	r := l.MH("explain", "--exit-code", "--mark", "0x2005", lab.Far4)
	wantCode(t, r, 3)
	for _, part := range []string{"\nkernel    agrees: refuses it", "\nwhy       uplink up2 is down\n", "\nmend      ip link set up2 up"} {
		wantPart(t, "explain", r.Stdout, part)
	}
	for _, c := range []struct {
		says string
		args []string
	}{
		{"is no IP address", []string{"example.org"}}, {"DESTINATION is missing", nil}, {"no number of 32 bits", []string{"--mark", "x", lab.Far4}},
		{"no interface of this host has that address", []string{"--from", "192.0.2.99", lab.Far4}}, {"there is no such interface", []string{"--device", "none0", lab.Far4}},
		{"none of udp, tcp, icmp", []string{"--proto", "gre", lab.Far4}}, {"there is no process", []string{"--pid", "4194304", lab.Far4}},
		{"--mark or --device", []string{"--mark", "1", "--device", "up1", lab.Far4}},
	} {
		r := l.MH(append([]string{"explain"}, c.args...)...)
		wantCode(t, r, 2)
		wantPart(t, fmt.Sprint(c.args), r.Stderr, c.says)
	}
}

// TestExplainAddressOfADownUplink: no sync mends that what is bound to the address leaves
// by another uplink.
func TestExplainAddressOfADownUplink(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Interfaces(pinned)
	l.MustMH("sync")
	l.Script("ip link set up2 down")
	for _, when := range []string{"before sync", "after sync"} {
		said := l.MustMH("explain", "--from", "198.51.100.10", lab.Far4).Stdout
		wantPart(t, when, said, "leaves by up1 with source 198.51.100.10")
		wantPart(t, when, said, "uplink up2 is down, and a source rule refuses nothing")
		wantPart(t, when, said, "mend      ip link set up2 up")
		l.MustMH("sync")
	}
	oneLine(t, l.MH("explain", "--mark", "up2", lab.Far4), "such as 0x2005 of uplink up2")
	oneLine(t, l.MH("explain", "--mark", "up9", lab.Far4), "such as 0x2005")
}
