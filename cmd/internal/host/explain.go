package host

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"strings"

	"wg-multihome/cmd/internal/explain"
	"wg-multihome/fwmark"
	"wg-multihome/nft"
	"wg-multihome/nft/cgroup"
	"wg-multihome/policy"
	"wg-multihome/policy/kernel"
)

// Looker looks at the kernel for packets, one after the other. It remembers what it
// read of rules, and of routes to a destination. Close frees it.
type Looker struct {
	kernel *kernel.Client
	rules  map[fwmark.Family][]policy.TracedRule
	routes map[netip.Addr][]policy.Route

	exceptions map[netip.Addr][]policy.Exception
}

// OpenLooker opens the kernel's socket.
func OpenLooker() (*Looker, error) {
	k, err := kernel.Open()
	if err != nil {
		return nil, err
	}
	return &Looker{k, map[fwmark.Family][]policy.TracedRule{}, map[netip.Addr][]policy.Route{}, map[netip.Addr][]policy.Exception{}}, nil
}

// Close frees what the looker holds.
func (l *Looker) Close() { l.kernel.Close() }

// Look returns what the kernel shows for a packet.
func (l *Looker) Look(p policy.Probe) (look explain.Look, err error) {
	family := fwmark.FamilyOf(p.Dst)
	if _, read := l.rules[family]; !read {
		if l.rules[family], err = l.kernel.TracedRules(family); err != nil {
			return look, err
		}
	}
	if _, read := l.routes[p.Dst]; !read {
		if l.routes[p.Dst], err = l.kernel.RoutesTo(p.Dst); err != nil {
			return look, err
		}
		if l.exceptions[p.Dst], err = l.kernel.ExceptionsTo(p.Dst, l.routes[p.Dst]); err != nil {
			return look, err
		}
	}
	look.Exceptions = l.exceptions[p.Dst]
	look.Rules, look.Routes = l.rules[family], l.routes[p.Dst]
	look.Kernel, err = l.kernel.Resolve(p)
	return look, err
}

// Cgroup finds a cgroup by its path below the mount, and those above it. One that is
// not there has those above it alone.
func Cgroup(path string) (explain.Cgroup, error) {
	c := explain.Cgroup{Path: path}
	mount, err := cgroup.Find()
	if err != nil {
		return c, err
	}
	names := strings.Split(path, "/")
	for depth := range names {
		node, there, err := mount.Resolve(strings.Join(names[:depth+1], "/"))
		if err != nil || !there {
			return c, err
		}
		c.Ids = append(c.Ids, nft.Cgroup{ID: node.ID, Level: node.Level})
	}
	return c, nil
}

// ProcessCgroup finds the cgroup that a process is in. A process in another network
// namespace is an error: what it sends is not decided here.
func ProcessCgroup(pid int) (explain.Cgroup, error) {
	dir := fmt.Sprintf("/proc/%d", pid)
	text, err := os.ReadFile(dir + "/cgroup")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return explain.Cgroup{}, fmt.Errorf("there is no process %d; `pidof NAME` tells a program's", pid)
	case err != nil:
		return explain.Cgroup{}, fmt.Errorf("cgroup of process %d: %w", pid, err)
	}
	theirs, err := os.Readlink(dir + "/ns/net")
	if err != nil {
		return explain.Cgroup{}, fmt.Errorf("network namespace of process %d: %w", pid, err)
	}
	if ours, err := os.Readlink("/proc/self/ns/net"); err == nil && ours != theirs {
		return explain.Cgroup{}, fmt.Errorf("process %d is in another network namespace (%s): what it sends is not decided by the rules here; `nsenter -t %d -n` has those of its own", pid, theirs, pid)
	}
	for _, line := range strings.Split(string(text), "\n") {
		whole, unified := strings.CutPrefix(line, "0::")
		if !unified {
			continue
		}
		c := explain.Cgroup{}
		mount, err := cgroup.Find()
		if err != nil {
			return c, err
		}
		// In the root, which nothing pins, or outside of what is mounted here.
		if path, below := strings.CutPrefix(whole, mount.Name("")); below && path != "" {
			c, err = Cgroup(path)
		}
		name, _ := os.ReadFile(dir + "/comm") // for the text alone
		c.What = fmt.Sprintf("process %d (%s)", pid, strings.TrimSpace(string(name)))
		return c, err
	}
	return explain.Cgroup{}, fmt.Errorf("process %d is in no cgroup of version 2: it is not pinned as a service", pid)
}
