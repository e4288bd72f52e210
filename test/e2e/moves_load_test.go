package e2e

import (
	"fmt"
	"math/rand"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wg-multihome/test/lab"
)

// loadVariable is how long the load lasts, for a run of hours: "90m".
const loadVariable = "WG_MULTIHOME_LOAD"

// loadEdits move marks, both uplinks' by and by: two are never exchanged in one go,
// which sockets have refused.
var loadEdits = [][2]string{
	{"0x100", "0x200"}, {"0x100", "0x300"}, {"0x200", "0x300"}, {"0x200", "0x100"}, {"0x300", "0x100"}, {"0x300", "0x200"},
}

// Datagrams, and the first segment of each connection: they are counted in one rule
// for each.
var begins = []string{"udp dport 9", "tcp dport 8 tcp flags & (syn | ack) == syn"}

// underLoad is a host on which everything happens at once, while services of up2 and
// commands of run send. Each of its actors is a goroutine.
type underLoad struct {
	*caseLab
	wrong  func() int // packets that came to the other ISP
	closed func() int // segments that did, of sockets whose connection was begun
	resets func() int // segments that did, with RST and without ACK: of no socket
	ours   func() int

	flushes bool // nftables, too

	end    chan struct{}
	actors sync.WaitGroup
	counts map[string]*atomic.Int64 // what happened how often

	flushed, later int // by packet: those that left wrongly while there was no table, and else
}

// TestMovesUnderLoad: for a minute one of the locks is taken away again and again,
// nftables or the rules, the other one standing; meanwhile services are restarted,
// marks move, the uplink is lost and comes back with other addresses, and runs are
// killed. By socket nothing leaves by the other uplink, nor do the last segments of a
// TCP connection that its program has closed, which are counted apart: it can get no
// other number, so it is ended before another uplink gets that. What the kernel answers
// to a segment that finds no socket any more has no mark, and leaves by main while the
// source rules are away. By packet what is sent while nftables is empty leaves by main.
func TestMovesUnderLoad(t *testing.T) {
	for name, v := range map[string]struct {
		way     string
		flushes bool
	}{"socket": {"socket", true}, "packet": {"packet", false}, "packet, nftables flushed": {"packet", true}} {
		t.Run(name, func(t *testing.T) { loadsMarks(newCaseLab(t, v.way), v.flushes) })
	}
}

func loadsMarks(c *caseLab, flushes bool) {
	t := c.t
	c.Interfaces("")
	for _, far := range []string{lab.Far4, lab.Far6} {
		c.ChatServer(c.Far, "", far)
	}
	u := &underLoad{caseLab: c, flushes: flushes, end: make(chan struct{}), counts: map[string]*atomic.Int64{}}
	by := func(isp *lab.Namespace, match string) func() int {
		return counting(t, isp, "prerouting priority -300", "iifname home "+match)
	}
	wrong, ours := [2]func() int{}, [2]func() int{}
	for i, match := range begins {
		wrong[i], ours[i] = by(c.ISP1, match), by(c.ISP2, match)
	}
	u.wrong = func() int { return wrong[0]() + wrong[1]() }
	u.ours = func() int { return ours[0]() + ours[1]() }
	u.closed = by(c.ISP1, "tcp dport 8 tcp flags & ack == ack")
	u.resets = by(c.ISP1, "tcp dport 8 tcp flags & (rst | ack) == rst")
	b := c.MakeCgroup("b.service")
	u.edit(0)
	u.mustSync()
	steady, err := c.Spray(b)
	fatal(t, err)
	u.act("locks taken away", u.breakLocks)
	u.act("marks moved", u.moveMarks())
	u.act("uplinks lost", u.loseUplink)
	u.act("services restarted", u.restart)
	u.act("commands killed", u.killCommand(rand.New(rand.NewSource(1))))
	u.act("runs killed", u.killSync(rand.New(rand.NewSource(2))))
	time.Sleep(u.lasts()) // this is no wait for something: it is how long the load lasts
	close(u.end)
	u.actors.Wait()
	u.mustSync()
	steady.End()
	u.proves()
}

func (u *underLoad) lasts() time.Duration {
	if d, err := time.ParseDuration(os.Getenv(loadVariable)); err == nil {
		return d
	}
	if !u.bySocket() { // for which there is no promise to prove
		return 25 * time.Second
	}
	return time.Minute
}

// act does something again and again, until the end.
func (u *underLoad) act(what string, do func()) {
	count := &atomic.Int64{}
	u.counts[what] = count
	u.actors.Add(1)
	go func() {
		defer u.actors.Done()
		for {
			select {
			case <-u.end:
				return
			default:
				do()
				count.Add(1)
			}
		}
	}()
}

// edit writes the configuration as an editor does, in one step.
func (u *underLoad) edit(number int) {
	const beside = namedFile + ".new"
	marks := loadEdits[number%len(loadEdits)]
	u.Write(beside, fmt.Sprintf("marking = %q\n[uplink.up1]\nfwmark = %s\n[uplink.up2]\nfwmark = %s\ngateway = [\"198.51.100.1\", \"2001:db8:2::1\"]\ncgroups = [%q, %q]\n",
		u.way, marks[0], marks[1], u.service, u.Slice()+"/b.service"), 0o644)
	u.Run("mv", beside, namedFile)
}

// converges runs sync until one had nothing to complain of.
func (u *underLoad) converges() bool {
	for range 50 {
		if u.MH("sync", "--config", namedFile).Code == 0 {
			return true
		}
	}
	return false
}

func (u *underLoad) mustSync() {
	u.t.Helper()
	if !u.converges() {
		u.t.Errorf("sync fails again and again:\n%s", u.MH("sync", "--config", namedFile).Stderr)
	}
}

// breakLocks takes the one lock away for some time, again and again, and then the
// other one, once that one stands again.
func (u *underLoad) breakLocks() {
	before := u.wrong()
	for range 10 {
		if u.flushes {
			u.Run("nft", "flush", "ruleset")
		}
	}
	u.mustSync()
	between := u.wrong()
	u.flushed += between - before
	for range 10 {
		u.Script(rulesGone)
	}
	u.mustSync()
	u.later += u.wrong() - between
}

// moveMarks goes from one edit to the next.
func (u *underLoad) moveMarks() func() {
	number := 0
	return func() {
		number++
		u.edit(number)
		u.mustSync()
	}
}

// loseUplink takes the link down, and gives it other addresses when it comes back,
// and others again while it is up.
func (u *underLoad) loseUplink() {
	u.Run("ip", "link", "set", "up2", "down")
	u.mustSync()
	at := func(last int) string {
		return fmt.Sprintf("ip addr replace 198.51.100.%d/24 dev up2; ip addr replace 2001:db8:2::%[1]d/64 dev up2 nodad\n", last)
	}
	gone := func(last int) string {
		return fmt.Sprintf("ip addr del 198.51.100.%d/24 dev up2 || :; ip addr del 2001:db8:2::%[1]d/64 dev up2 || :\n", last)
	}
	// The kernel asks the rules, which another actor takes away, what is on-link.
	const routes = "ip route replace default via 198.51.100.1 dev up2 metric 2 onlink; ip route replace default via 2001:db8:2::1 dev up2 metric 2 onlink\n"
	u.Script("ip link set up2 up\n" + at(20) + gone(10) + routes)
	u.mustSync()
	u.Script(at(10) + gone(20) + routes)
	u.mustSync()
}

// restart starts the service anew, in a new cgroup, once a sync has seen that.
func (u *underLoad) restart() {
	u.RemoveCgroup("a.service")
	u.MakeCgroup("a.service")
	if !u.converges() { // its ExecStartPre fails: it is not started
		return
	}
	s, err := u.Spray(u.service)
	fatal(u.t, err)
	select {
	case <-u.end:
	case <-time.After(500 * time.Millisecond): // how long the service runs
	}
	s.End()
}

// killCommand kills `run` at any moment, and what it has started a while later.
func (u *underLoad) killCommand(random *rand.Rand) func() {
	return func() {
		s, err := u.Spray("", u.Binary, "--config", namedFile, "run", "up2", "--")
		fatal(u.t, err)
		time.Sleep(time.Duration(random.Intn(400)) * time.Millisecond) // the moment of the kill
		s.Kill()
		s.End()
	}
}

// killSync kills a run at any moment of it.
func (u *underLoad) killSync(random *rand.Rand) func() {
	return func() {
		runKilled(u.t, u.Lab, time.Duration(random.Intn(60))*time.Millisecond, "sync", "--config", namedFile)
	}
}

// proves says what was counted, and that it could have been counted.
func (u *underLoad) proves() {
	u.t.Helper()
	for what, count := range u.counts {
		u.t.Logf("%d times: %s", count.Load(), what)
		if count.Load() < 3 {
			u.t.Errorf("%s %d times only", what, count.Load())
		}
	}
	wrong, ours := u.wrong(), u.ours()
	u.t.Logf("%d packets by the uplink, %d by the other one: %d while nftables was flushed, %d else", ours, wrong, u.flushed, u.later)
	closed := u.closed()
	u.t.Logf("%d later segments of connections by the other one; %d resets of no socket", closed, u.resets())
	if u.bySocket() && closed != 0 {
		u.t.Errorf("%d segments of sockets whose connection was begun left by the other uplink", closed)
	}
	if ours < 10000 {
		u.t.Errorf("%d packets by the uplink: nothing was proved", ours)
	}
	allowed := 0
	if !u.bySocket() { // none is the rule, and no promise
		allowed = ours / 50000
	}
	if (u.bySocket() || !u.flushes) && wrong > allowed {
		u.t.Errorf("%d packets left by the other uplink, of %d", wrong, ours)
	}
	if !u.bySocket() && u.flushes && wrong == 0 {
		u.t.Error("marks of packets outlived a flush: the topic services says otherwise")
	}
	noDriftOf(u.t, u.Lab, namedFile)
	u.Send(lab.Sender{To: lab.Far4}, 1)
	lab.Until(u.t, "what is not pinned is counted", func() bool { return u.wrong() > wrong })
}
