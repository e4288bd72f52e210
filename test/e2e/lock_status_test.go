package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"wg-multihome/test/lab"
)

// lockStatus is what `status --json` says of the table.
type lockStatus struct {
	Locks []struct {
		Mark    string `json:"mark"`
		Dropped int    `json:"dropped"`
		Cause   string `json:"likely_cause"`
	} `json:"locks"`
	Held       []string `json:"held_routes"`
	Outside    []string `json:"outside_lock"`
	EmptySets  []string `json:"empty_sets"`
	OtherMarks int      `json:"other_marks"`
}

func readLockStatus(t *testing.T, l *lab.Lab, args ...string) (s lockStatus) {
	t.Helper()
	if err := json.Unmarshal([]byte(wantValid(t, "status", l.MustMH(append([]string{"status", "--json"}, args...)...).Stdout)), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func wantList(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if got == nil || !slices.Equal(got, want) {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

// TestStatusOfTheSecondLock: what it drops and why, routes that it does not
// know, devices that it leaves out.
func TestStatusOfTheSecondLock(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Script(`ip tuntap add dev tun9 mode tun; ip link set tun9 up; ip route add 10.70.0.0/16 dev tun9
ip tuntap add dev tun8 mode tun; ip link set tun8 up`)
	l.Interfaces(pinned)
	l.MustMH("sync")
	s := readLockStatus(t, l)
	wantList(t, "routes not known", s.Held)
	wantList(t, "devices outside", s.Outside)
	wantList(t, "empty sets", s.EmptySets)
	for _, part := range []string{"SECOND LOCK", "WITHOUT ELEMENTS", "OTHER SOFTWARE"} {
		wantNone(t, "status", l.MustMH("status").Stdout, part)
	}
	total := 0
	lost := func(to, device, cause string) {
		t.Helper()
		l.Send(lab.Sender{To: to, Mark: mark, Device: device}, 5)
		total += 5
		s := readLockStatus(t, l)
		if len(s.Locks) != 1 || s.Locks[0].Mark != "0x2005" || s.Locks[0].Dropped != total || !strings.Contains(s.Locks[0].Cause, cause) {
			t.Errorf("locks: %+v, want %d dropped because %s", s.Locks, total, cause)
		}
		wantPart(t, "status", l.MustMH("status").Stdout, fmt.Sprintf("0x2005       %d ", total))
	}
	lost("203.0.113.9", "tun9", "bound to another device")

	l.Script("ip route add 10.77.0.0/16 dev tun9; ip route add fd77::/64 dev tun9; ip route del 10.70.0.0/16 dev tun9")
	wantEqual(t, "plan", l.MustMH("plan").Stdout, "= nft chain lock_exempt (21 rules)\n= nft set via4_tun9 { + 10.77.0.0/16, - 10.70.0.0/16 }\n+ nft set via6_tun9 { fd77::/64 }\n")
	lost("10.77.0.1", "", "does not know")
	wantList(t, "routes not known", readLockStatus(t, l).Held, "route 4 main 10.77.0.0/16 dev tun9", "route 6 main fd77::/64 dev tun9")
	wantPart(t, "status", l.MustMH("status").Stdout, "\n  route 4 main 10.77.0.0/16 dev tun9\n")
	wantCode(t, l.MH("status", "--exit-code"), 3)
	l.MustMH("sync", "--hook")
	wantList(t, "routes not known", readLockStatus(t, l).Held)
	noDrift(t, l)
	passed(t, l, "tun9")
	l.Send(lab.Sender{To: "10.77.0.1", Mark: mark}, 5)
	if n := passed(t, l, "tun9"); n != 5 {
		t.Errorf("%d of 5 datagrams passed by the new route", n)
	}

	l.Script("ip link add vx type vxlan id 7 dstport 4789 remote 192.0.2.7 dev up1; ip link set vx up")
	lost("203.0.113.9", "tun9", "underlay of vx")
	l.Run("ip", "link", "del", "vx")

	var batch strings.Builder
	for i := range 4097 {
		fmt.Fprintf(&batch, "route add 10.%d.%d.%d/32 dev tun8\n", 192+i>>12, i>>6&63, i&63*4)
	}
	l.Write("/run/batch", batch.String(), 0o644)
	l.Run("ip", "-batch", "/run/batch")
	l.MustMH("sync")
	noDrift(t, l)
	wantList(t, "devices outside", readLockStatus(t, l).Outside, "tun8")
	wantPart(t, "status", l.MustMH("status").Stdout, "PRIVATE DESTINATIONS ALONE PASS THE SECOND LOCK, as there are more than 4096 prefixes:\n  tun8\n")
	l.Send(lab.Sender{To: "10.192.0.4", Mark: mark, Device: "tun8"}, 5)
	if n := passed(t, l, "tun8"); n != 5 {
		t.Errorf("%d of 5 datagrams passed to a private destination of a device with many", n)
	}
	lost("203.0.113.9", "tun8", "bound")

	l.Script(rulesGone)
	lost("203.0.113.9", "", "rules are missing")
}

// TestStatusOfOtherMarksAndEmptySets: what others put into packets, and what
// they put into our sets no longer.
func TestStatusOfOtherMarksAndEmptySets(t *testing.T) {
	l := newLab(t)
	l.Static()
	config := pins(l, []string{}, []string{})
	a := l.MakeCgroup("a.service")
	l.MustMH("sync", "--config", config)
	l.Run("nft", "add element "+table+" mark_0x2005 { "+nftPath(t, l, a)+" }")
	s := readLockStatus(t, l, "--config", config)
	wantList(t, "empty sets", s.EmptySets, "mark_0x1001")
	if s.OtherMarks != 0 {
		t.Errorf("%d packets with marks of others before there was one", s.OtherMarks)
	}
	l.Run("nft", "flush set "+table+" mark_0x2005")
	l.Send(lab.Sender{To: lab.Far4, Mark: 0x80000}, 5)
	l.Send(lab.Sender{To: lab.Far4, Mark: mark}, 5)
	s = readLockStatus(t, l, "--config", config)
	wantList(t, "empty sets", s.EmptySets, "mark_0x1001", "mark_0x2005")
	if s.OtherMarks != 1 { // of one connection the first is counted
		t.Errorf("%d packets with marks of others, want 1", s.OtherMarks)
	}
	text := l.MustMH("status", "--config", config).Stdout
	for _, part := range []string{"WITHOUT ELEMENTS", "\n  mark_0x2005\n", "OTHER SOFTWARE", "\n  1 packets or connections had one"} {
		wantPart(t, "status", text, part)
	}
	l.MustMH("sync", "--config", pins(l, nil, []string{a}))
	wantList(t, "empty sets", readLockStatus(t, l, "--config", config).EmptySets, "mark_0x1001")
}
