package lab

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
)

// Far's addresses, and the port that it answers on.
const (
	Far4 = "203.0.113.1"
	Far6 = "2001:db8:f::1"
	port = "7"
)

// Lab is one host with its surroundings.
type Lab struct {
	*Namespace // the host
	ISP1, ISP2 *Namespace
	Far        *Namespace
	Binary     string // the program under test, as an absolute path

	cgroups Cgroups
	asked   atomic.Int64 // how often
}

// The lab is built by few programs, as each of them takes its time where the
// machine is emulated.

// basics are those of every namespace. Without duplicate address detection an
// address can be used at once.
const basics = `
for d in all default; do echo 0 >/proc/sys/net/ipv6/conf/$d/accept_dad; done
ip link set lo up`

// privateMounts gives the host its own /run, /etc and /var/lib, and a /usr that cannot
// be written. They are whole folders: a mount on a file of the machine's would go when
// somebody outside puts another file in that one's place, and what a DHCP client's
// script writes would be the machine's then. The hook that keeps dhclient-script from
// resolv.conf is the lab's.
const privateMounts = `
mount -t tmpfs none /run
mkdir -p /run/network /run/fstab.d /run/machine/etc/upper /run/machine/etc/work /run/machine/lib/upper /run/machine/lib/work
: >/run/hosts
: >/run/resolv.conf
cat >/run/fstab.d/machine.fstab <<X
none /etc overlay lowerdir=/etc,upperdir=/run/machine/etc/upper,workdir=/run/machine/etc/work 0 0
none /var/lib overlay lowerdir=/var/lib,upperdir=/run/machine/lib/upper,workdir=/run/machine/lib/work 0 0
/usr /usr none bind,ro 0 0
X
cat >/run/fstab.d/own.fstab <<X
none /etc/network tmpfs rw 0 0
none /etc/dhcp tmpfs rw 0 0
none /etc/wireguard tmpfs rw 0 0
none /var/lib/dhcp tmpfs rw 0 0
none /var/lib/wg-multihome tmpfs rw 0 0
X
mount -a -T /run/fstab.d/machine.fstab
mkdir -p /etc/network /etc/dhcp /etc/wireguard /var/lib/dhcp /var/lib/wg-multihome
ln -sf -t /etc ../run/hosts ../run/resolv.conf
rm -f /etc/wg-multihome.toml
mount -a -T /run/fstab.d/own.fstab
mkdir -p /etc/network/if-pre-up.d /etc/network/if-up.d /etc/network/if-down.d /etc/network/if-post-down.d /etc/dhcp/dhclient-enter-hooks.d /etc/dhcp/dhclient-exit-hooks.d
echo 'make_resolv_conf() { :; }' >/etc/dhcp/dhclient-enter-hooks.d/no-resolv-conf
echo 'initial-interval 1; request subnet-mask, routers, rfc3442-classless-static-routes;
option rfc3442-classless-static-routes code 121 = array of unsigned integer 8;' >/etc/dhcp/dhclient.conf
echo 1 >/proc/sys/net/ipv4/conf/all/promote_secondaries
` + basics

// New builds a lab. binary is the program under test.
func New(t testing.TB, binary string) *Lab {
	t.Helper()
	cgroups := newCgroups(t)
	host := newNamespace(t, "host", true, fmt.Sprintf("mount --bind %s %s\n", cgroups.dir, cgroups.mount)+privateMounts)
	return around(t, binary, host, cgroups)
}

// around gives a host its surroundings.
func around(t testing.TB, binary string, host *Namespace, cgroups Cgroups) *Lab {
	t.Helper()
	l := &Lab{
		Namespace: host,
		ISP1:      newNamespace(t, "isp1", false, basics),
		ISP2:      newNamespace(t, "isp2", false, basics),
		Far:       newNamespace(t, "far", false, basics),
		Binary:    binary,
		cgroups:   cgroups,
	}
	l.IP(fmt.Sprintf(`link add up1 address 02:00:00:00:01:02 type veth peer name home netns %d
link add up2 address 02:00:00:00:02:02 type veth peer name home netns %d
link set up1 up
link set up2 up`, l.ISP1.pid, l.ISP2.pid))
	l.Far.IP(fmt.Sprintf(`link add f1 type veth peer name far netns %d
link add f2 type veth peer name far netns %d
addr add %s/32 dev lo
addr add %s/128 dev lo nodad`, l.ISP1.pid, l.ISP2.pid, Far4, Far6))
	for i, isp := range []*Namespace{l.ISP1, l.ISP2} {
		l.router(isp, i+1, []string{"192.0.2", "198.51.100"}[i], fmt.Sprintf("2001:db8:%d", i+1))
	}
	l.Echo(l.Far, "", Far4, Far6)
	Until(t, "both uplinks have their link-local addresses", func() bool { return l.linkLocal() == 2 })
	return l
}

// linkLocal counts the host's link-local addresses, which the kernel gives to a
// link a while after it came up.
func (l *Lab) linkLocal() int {
	l.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/if_inet6", l.pid))
	fatal(l.t, err)
	return strings.Count("\n"+string(text), "\nfe80")
}

func (l *Lab) router(isp *Namespace, number int, net4, net6 string) {
	l.t.Helper()
	isp.Script(fmt.Sprintf(`echo 1 >/proc/sys/net/ipv4/ip_forward
echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
ip -batch - <<X
link set home up
link set far up
addr add %[2]s.1/24 dev home
addr add %[3]s::1/64 dev home nodad
addr add 10.%[1]d.0.1/24 dev far
addr add fd00:%[1]d::1/64 dev far nodad
route add %[4]s via 10.%[1]d.0.2
route add %[5]s via fd00:%[1]d::2
X
nft -f - <<X
table inet isp {
	counter spoofed {}
	set sources4 { type ipv4_addr . inet_service; flags dynamic; size 64; }
	set sources6 { type ipv6_addr . inet_service; flags dynamic; size 64; }
	chain forward {
		type filter hook forward priority 0
		iifname home ip saddr != %[2]s.0/24 add @sources4 { ip saddr . th dport } counter name spoofed drop
		iifname home ip6 saddr != %[3]s::/64 add @sources6 { ip6 saddr . th dport } counter name spoofed drop
	}
}
X`, number, net4, net6, Far4, Far6))
	l.Far.IP(fmt.Sprintf(`link set f%[1]d up
addr add 10.%[1]d.0.2/24 dev f%[1]d
addr add fd00:%[1]d::2/64 dev f%[1]d nodad
route add %[2]s.0/24 via 10.%[1]d.0.1 src %[4]s
route add %[3]s::/64 via fd00:%[1]d::1 src %[5]s`, number, net4, net6, Far4, Far6))
}

func self(t testing.TB) string {
	t.Helper()
	path, err := os.Executable()
	fatal(t, err)
	return path
}

var counted = regexp.MustCompile(`packets (\d+)`)

// Spoofed returns how many packets both routers dropped for their source.
func (l *Lab) Spoofed() int {
	l.t.Helper()
	sum := 0
	for _, isp := range []*Namespace{l.ISP1, l.ISP2} {
		m := counted.FindStringSubmatch(isp.Run("nft", "list", "counter", "inet", "isp", "spoofed"))
		if m == nil {
			l.t.Fatal("a router has no counter")
		}
		n, err := strconv.Atoi(m[1])
		fatal(l.t, err)
		sum += n
		if n > 0 {
			l.t.Logf("%s dropped, by source and port:\n%s", isp.name, isp.Run("nft", "list", "sets", "inet"))
		}
	}
	return sum
}

// MH runs the program under test on the host.
func (l *Lab) MH(args ...string) Result {
	l.t.Helper()
	return l.Try(nil, append([]string{l.Binary}, args...)...)
}

// MustMH runs it, and fails the test unless it exits with 0.
func (l *Lab) MustMH(args ...string) Result {
	l.t.Helper()
	r := l.MH(args...)
	if r.Code != 0 {
		l.t.Fatalf("wg-multihome %v: exit status %d\n%s%s", args, r.Code, r.Stdout, r.Stderr)
	}
	return r
}

// Event runs the program as a DHCP client's hook does: the event is the
// environment.
func (l *Lab) Event(variables ...string) Result {
	l.t.Helper()
	return l.Try(variables, l.Binary, "exit-hook")
}

// ClientEvent runs it as the hook of a DHCP client does. action is udhcpc's; ""
// for the others.
func (l *Lab) ClientEvent(client, action string, variables ...string) Result {
	l.t.Helper()
	args := []string{l.Binary, "exit-hook", "--client", client}
	if action != "" {
		args = append(args, action)
	}
	return l.Try(variables, args...)
}

// Interfaces writes /etc/network/interfaces.
func (l *Lab) Interfaces(text string) {
	l.t.Helper()
	l.Write("/etc/network/interfaces", text, 0o644)
}

// DefaultTOML is where the program looks for its configuration file when nobody names
// one.
const DefaultTOML = "/etc/wg-multihome.toml"

// TOML writes the program's own configuration file, and returns its path.
func (l *Lab) TOML(text string) string {
	l.t.Helper()
	const path = "/run/wg-multihome.toml"
	l.Write(path, text, 0o644)
	return path
}

// Static gives both uplinks static addresses and default routes of both
// families; the first one's are preferred.
func (l *Lab) Static() {
	l.t.Helper()
	l.IP(`addr add 192.0.2.10/24 dev up1
addr add 2001:db8:1::10/64 dev up1 nodad
addr add 198.51.100.10/24 dev up2
addr add 2001:db8:2::10/64 dev up2 nodad
route add default via 192.0.2.1 dev up1 metric 1
route add default via 2001:db8:1::1 dev up1 metric 1
route add default via 198.51.100.1 dev up2 metric 2
route add default via 2001:db8:2::1 dev up2 metric 2`)
}

// State returns all rules and routes of the host as text.
func (l *Lab) State() string {
	l.t.Helper()
	return l.Script("ip -d rule; ip -d -6 rule; ip -d route show table all; ip -d -6 route show table all | sed 's/expires [0-9]*sec//'")
}

// Rules returns the host's rules of a family, "-4" or "-6", blanks made single.
func (l *Lab) Rules(family string) string {
	l.t.Helper()
	var lines []string
	for _, line := range strings.Split(strings.TrimSpace(l.Run("ip", family, "rule")), "\n") {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	return strings.Join(lines, "\n") + "\n"
}

// Default returns the default route of one of the host's IPv4 tables.
func (l *Lab) Default(number string) string {
	l.t.Helper()
	return strings.TrimSpace(l.Try(nil, "ip", "route", "show", "table", number, "exact", "default").Stdout)
}

// Table returns the routes of one table of the host.
func (l *Lab) Table(number string) string {
	l.t.Helper()
	r := l.Try(nil, "ip", "route", "show", "table", number)
	return strings.ReplaceAll(strings.TrimSpace(r.Stdout), " \n", "\n")
}
