package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// load is what others do all the time, and what watch may take of a core meanwhile.
type load struct {
	name  string
	most  float64
	begin func() error // nil: nothing
	each  func(i int) error
	end   func() error // nil: nothing
}

// often is how far apart the events of a load are.
const often = time.Millisecond

func loads() []load {
	address := func(i int) *netlink.Addr {
		a, _ := netlink.ParseAddr("2001:db8:2::10/64")
		a.Flags, a.ValidLft, a.PreferedLft = unix.IFA_F_NODAD, 10000+i%1000, 5000
		return a
	}
	advertised := func(i int) error {
		return onWAN2(func(l netlink.Link) error { return netlink.AddrReplace(l, address(i)) })
	}
	route := func(i int) *netlink.Route {
		dst, _ := netlink.ParseIPNet(fmt.Sprintf("20.0.%d.0/24", i/4%256))
		return &netlink.Route{Dst: dst, Type: unix.RTN_BLACKHOLE, Table: 901, Priority: 1}
	}
	rule := func(i int) *netlink.Rule {
		r := netlink.NewRule()
		r.Priority, r.Family, r.Table = 40000, unix.AF_INET, unix.RT_TABLE_MAIN
		r.Dst, _ = netlink.ParseIPNet(fmt.Sprintf("20.0.%d.0/24", i/2%256))
		return r
	}
	return []load{
		{"irrelevant", 0.1, func() error { return advertised(0) }, func(i int) error {
			switch i % 4 {
			case 0:
				return netlink.RouteAdd(route(i))
			case 1:
				return netlink.RouteDel(route(i))
			}
			return advertised(i)
		}, func() error { return onWAN2(func(l netlink.Link) error { return netlink.AddrDel(l, address(0)) }) }},
		{"relevant", 0.5, nil, func(i int) error {
			if i%2 == 0 {
				return netlink.RuleAdd(rule(i))
			}
			return netlink.RuleDel(rule(i))
		}, nil},
		{"fight", 0.1, nil, func(int) error {
			if err := netlink.RuleDel(guardRule()); err != nil && !errors.Is(err, unix.ENOENT) {
				return err
			}
			return nil
		}, nil},
	}
}

// under says what watch takes under a load.
func (b *bench) under(l load) error {
	if err := configure(""); err != nil {
		return err
	}
	if l.begin != nil {
		if err := l.begin(); err != nil {
			return err
		}
	}
	b.quiet(3 * time.Second)
	go b.drain(b.load + time.Second)
	ticks := time.NewTicker(often)
	defer ticks.Stop()
	began, cpu, events := time.Now(), b.cpu(), 0
	for ; time.Since(began) < b.load; events++ {
		<-ticks.C
		if err := l.each(events); err != nil {
			return err
		}
	}
	took := time.Since(began)
	fmt.Printf("%-22s %.0f acts a second: watch takes %.1f %% of a core (goal: %.0f %%), %.1f MiB resident\n",
		l.name, float64(events)/took.Seconds(), 100*float64(b.cpu()-cpu)/float64(took), 100*l.most, float64(b.status("VmRSS", false))/1024)
	if l.end != nil {
		return l.end()
	}
	return nil
}

// drain takes what is heard for a while.
func (b *bench) drain(while time.Duration) {
	end := time.After(while)
	for {
		select {
		case <-b.heard:
		case <-end:
			return
		}
	}
}

// rests says what watch takes while nothing happens.
func (b *bench) rests() {
	b.quiet(12 * time.Second) // watch gives memory back
	cpu, wakes := b.cpu(), b.status("voluntary_ctxt_switches", true)
	time.Sleep(b.idle)
	fmt.Printf("idle for %s: %d context switches, %s of CPU, %.1f MiB resident (%.1f of them its own)\n", b.idle,
		b.status("voluntary_ctxt_switches", true)-wakes, b.cpu()-cpu, float64(b.status("VmRSS", false))/1024, float64(b.status("RssAnon", false))/1024)
}

// status reads numbers of watch's: of the process, or summed over its threads.
func (b *bench) status(key string, threads bool) (sum int) {
	pattern := fmt.Sprintf("/proc/%d/status", b.pid)
	if threads {
		pattern = fmt.Sprintf("/proc/%d/task/*/status", b.pid)
	}
	files, _ := filepath.Glob(pattern) // it is well-formed
	for _, file := range files {
		text, _ := os.ReadFile(file)
		for _, line := range strings.Split(string(text), "\n") {
			var n int
			if name, value, ok := strings.Cut(line, ":"); ok && name == key {
				_, _ = fmt.Sscan(value, &n)
				sum += n
			}
		}
	}
	return sum
}

// cpu is what watch has used.
func (b *bench) cpu() time.Duration {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", b.pid))
	_, after, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(after)
	if len(fields) < 13 {
		return 0
	}
	var user, system int
	_, _ = fmt.Sscan(fields[11], &user)
	_, _ = fmt.Sscan(fields[12], &system)
	return time.Duration(user+system) * 10 * time.Millisecond
}
