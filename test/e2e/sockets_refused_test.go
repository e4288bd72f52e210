package e2e

import (
	"encoding/json"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"wg-multihome/test/lab"
)

// forCgroups are the calls of bpf(2) that a kernel without CONFIG_CGROUP_BPF answers
// with EINVAL: it knows no program of that type, and no cgroup as a target.
var forCgroups = []uint32{unix.BPF_PROG_LOAD, unix.BPF_PROG_ATTACH, unix.BPF_PROG_DETACH, unix.BPF_PROG_QUERY}

// TestSocketsRefused: where bpf(2) fails packets are marked, and status says why; once
// it can be had, sockets.
func TestSocketsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		errno  unix.Errno
		calls  []uint32
		reason string
	}{
		"EPERM":                     {unix.EPERM, nil, "bpf(2) is not permitted"},
		"EPERM of loads":            {unix.EPERM, []uint32{unix.BPF_PROG_LOAD}, "bpf(2) is not permitted"},
		"ENOSYS":                    {unix.ENOSYS, nil, "there is no bpf(2)"},
		"without CONFIG_CGROUP_BPF": {unix.EINVAL, forCgroups, "this kernel has no BPF for cgroups (CONFIG_CGROUP_BPF)"},
	} {
		t.Run(name, func(t *testing.T) {
			l, _ := socketLab(t)
			for range 2 {
				r := l.MHWithoutBPF(c.errno, c.calls, "sync")
				wantCode(t, r, 0)
				wantNone(t, "what sync says", r.Stderr, "socket-mark")
			}
			wantPinned(t, l)
			r := l.MHWithoutBPF(c.errno, c.calls, "status", "--exit-code")
			wantCode(t, r, 0)
			wantPart(t, "status", r.Stdout, "pinned by packet: "+c.reason)
			wantPart(t, "status", r.Stdout, "nothing drifts")
			wantCode(t, l.MHWithoutBPF(c.errno, c.calls, "plan", "--exit-code"), 0)
			got := servicesOf(t, l.MHWithoutBPF(c.errno, c.calls, "status", "--json"))
			if len(got) != 1 || got[0].Marking != "packet" || !strings.HasPrefix(got[0].Why, c.reason) || !got[0].Pinned {
				t.Errorf("JSON: %+v", got)
			}
			wantMarkedAgain(t, l)
		})
	}
}

// wantMarkedAgain has the sockets of a service be marked that could not be.
func wantMarkedAgain(t *testing.T, l *lab.Lab) {
	t.Helper()
	l.ForgetConnections() // that have the mark: the part of the table stays for these
	wantPart(t, "sync", l.MustMH("sync").Stderr, "+ socket-mark "+socketService)
	wantPinned(t, l)
	noPart(t, l)
	noDrift(t, l)
	noSpoof(t, l)
}

// services are those of `status --json`.
type servicesJSON []struct {
	Cgroup, Uplink, Mark, Marking, Why string
	Exists, Pinned                     bool
	First                              []string
}

func servicesOf(t *testing.T, r lab.Result) servicesJSON {
	t.Helper()
	var s struct{ Services servicesJSON }
	fatal(t, json.Unmarshal([]byte(wantValid(t, "status", r.Stdout)), &s))
	return s.Services
}

// TestSocketsRefusedByOtherPrograms: another program on the cgroup, or above it, allows
// none beside it.
func TestSocketsRefusedByOtherPrograms(t *testing.T) {
	for name, c := range map[string]struct {
		cgroup string
		flags  uint32
	}{
		"on the cgroup":                     {socketService, 0},
		"on the cgroup, ALLOW_OVERRIDE":     {socketService, unix.BPF_F_ALLOW_OVERRIDE},
		"on a cgroup above":                 {"test.slice", 0},
		"on a cgroup above, ALLOW_OVERRIDE": {"test.slice", unix.BPF_F_ALLOW_OVERRIDE},
	} {
		t.Run(name, func(t *testing.T) {
			l, cgroups := socketLab(t)
			detach := cgroups.Foreign(c.cgroup, c.flags, 0)
			l.MustMH("sync")
			wantPinned(t, l)
			noDrift(t, l)
			says := howServed(t, l, socketService)
			wantPart(t, "status", says, "pinned by packet: a program of others allows none beside it: others (id ")
			wantPart(t, "status", says, " of cgroup /"+c.cgroup)
			detach()
			wantMarkedAgain(t, l)
		})
	}
}

// TestSocketsRefusedByAnError: an EINVAL of anything but a program that does nothing
// is no reason to mark packets. It is said, and nothing of the service leaves by
// another uplink for it.
func TestSocketsRefusedByAnError(t *testing.T) {
	l, _ := socketLab(t)
	attach := []uint32{unix.BPF_PROG_ATTACH}
	r := l.MHWithoutBPF(unix.EINVAL, attach, "sync")
	wantCode(t, r, 1)
	wantPart(t, "sync", r.Stderr, "invalid argument")
	noPart(t, l)
	r = l.MHWithoutBPF(unix.EINVAL, attach, "status", "--exit-code")
	wantCode(t, r, 3)
	wantPart(t, "status", r.Stdout, "NOT PINNED by socket")
	wantMarkedAgain(t, l)
}

// TestSocketsRefusedInAUserNamespace, as in a container without privileges: the kernel
// says EPERM there.
func TestSocketsRefusedInAUserNamespace(t *testing.T) {
	l, _ := socketLab(t)
	r := l.Try(nil, "unshare", "--user", "--map-root-user", "--net", "sh", "-euc", `
ip link add up2 type veth peer name peer; ip link set up2 up; ip link set peer up; ip link set lo up
ip addr add 198.51.100.10/24 dev up2; ip route add default via 198.51.100.1 dev up2
"$0" sync; "$0" status --exit-code; nft list table inet wg_multihome`, l.Binary)
	wantCode(t, r, 0)
	wantPart(t, "status", r.Stdout, "pinned by packet: bpf(2) is not permitted")
	wantPart(t, "table", r.Stdout, "socket cgroupv2")
}

// TestSocketsAroundPackets: a service by packet inside of another uplink's cgroup has
// the outer one be marked by packet, too.
func TestSocketsAroundPackets(t *testing.T) {
	l := newLab(t)
	l.Static()
	cgroups := l.Cgroups()
	cgroups.Make(socketService)
	cgroups.Make("test.slice/b.service")
	outer := "iface up1 inet dhcp\n\tmultihomed-fwmark 0x1005\n\tmultihomed-cgroup test.slice\n" + pinned + "\tmultihomed-cgroup " + socketService + "\n"
	apart := func() {
		t.Helper()
		l.MustMH("sync")
		wantService(t, l, socketService, lab.Far4, two4)
		wantService(t, l, socketService, lab.Far6, two6)
		wantService(t, l, "test.slice/b.service", lab.Far4, one4)
		wantService(t, l, "test.slice/b.service", lab.Far6, one6)
		noDrift(t, l)
	}
	const why = "up1 0x1005 pinned by packet: " + socketService + " is below it, of another mark and marked by packet"
	// Where the inner one's sockets cannot be marked.
	detach := cgroups.Foreign(socketService, 0, 0)
	l.Interfaces(outer)
	apart()
	wantEqual(t, "the outer one", howServed(t, l, "test.slice"), why)
	// Once both are marked by socket, the inner one's programs win.
	detach()
	l.ForgetConnections()
	apart()
	wantEqual(t, "the outer one", howServed(t, l, "test.slice"), "up1 0x1005 pinned by socket")
	l.ForgetConnections()
	l.MustMH("sync")
	noPart(t, l)
	// Where they are not to be marked.
	l.Interfaces(outer + "\tmultihomed-marking packet\n")
	apart()
	wantEqual(t, "the inner one", howServed(t, l, socketService), "up2 0x2005 pinned by packet")
	wantEqual(t, "the outer one", howServed(t, l, "test.slice"), why)
	noSpoof(t, l)
}

// TestSocketsBehindOthers: a program of others that is called first and sets a mark
// has its way, and status names it.
func TestSocketsBehindOthers(t *testing.T) {
	l, cgroups := socketLab(t)
	detach := cgroups.Foreign(socketService, unix.BPF_F_ALLOW_MULTI, 7)
	l.MustMH("sync")
	noDrift(t, l)
	wantService(t, l, socketService, lab.Far4, one4)
	wantPart(t, "status", howServed(t, l, socketService), "pinned by socket, behind others (id ")
	wantPart(t, "status", howServed(t, l, socketService), " of others, whose marks count")
	got := servicesOf(t, l.MustMH("status", "--json"))
	if len(got) != 1 || got[0].Marking != "socket" || got[0].Why != "" || len(got[0].First) != 1 || !strings.HasPrefix(got[0].First[0], "others (id ") {
		t.Errorf("JSON: %+v", got)
	}
	detach()
	wantPinned(t, l)
	wantEqual(t, "status", howServed(t, l, socketService), "up2 0x2005 pinned by socket")
	noSpoof(t, l)
}

// TestElementsOfOthersKeepThePart: what others have put into a mark's set is marked by
// packet, beside services that are marked by socket, and status says so.
func TestElementsOfOthersKeepThePart(t *testing.T) {
	l, cgroups := socketLab(t)
	cgroups.Make("test.slice/b.service")
	l.Interfaces(pinned + "\tmultihomed-marking packet\n\tmultihomed-cgroup " + socketService + "\n")
	l.MustMH("sync")
	l.Run("nft", "add element inet wg_multihome mark_0x2005 { "+nftPath(t, l, "test.slice/b.service")+" }")
	l.Interfaces(pinned + "\tmultihomed-cgroup " + socketService + "\n")
	for range 2 {
		l.MustMH("sync")
		wantService(t, l, "test.slice/b.service", lab.Far4, two4)
		wantPinned(t, l)
		noDrift(t, l)
	}
	wantEqual(t, "the service", howServed(t, l, socketService), "up2 0x2005 pinned by socket")
	wantPart(t, "status", l.MustMH("status").Stdout, "mark_0x2005: test.slice/b.service")
	wantPart(t, "JSON", l.MustMH("status", "--json").Stdout, `"mark_0x2005: test.slice/b.service"`)
	wantPart(t, "down", l.MustMH("down").Stderr, "nft table")
	wantService(t, l, "test.slice/b.service", lab.Far4, one4)
	noSpoof(t, l)
}
