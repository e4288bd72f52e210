package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"

	"wg-multihome/cmd/internal/decide"
	"wg-multihome/cmd/internal/doctor"
	"wg-multihome/cmd/internal/install"
	"wg-multihome/wg"
)

// Examine gathers what doctor's checks look at. caller is how hooks are to call the
// program.
func (h *Host) Examine(ctx context.Context, d decide.Decision, caller install.Caller) doctor.Facts {
	f := doctor.Facts{Decision: d, Failed: map[doctor.Source]error{}, Files: map[string]wg.File{}, Endpoints: map[string][]netip.Addr{}}
	f.Failed[doctor.Sysctls] = readConfs(&f)
	f.Failed[doctor.Interface] = readMTUs(&f)
	f.Failed[doctor.WireGuard] = h.readTunnels(ctx, &f)
	f.Failed[doctor.Installed] = readHooks(&f, caller)
	f.Failed[doctor.Others] = readOthers(&f)
	f.Failed[doctor.Running] = readProcesses(&f)
	f.Failed[doctor.Clients] = readClients(&f)
	f.Watched = h.State.Watched()
	return f
}

// confNames are the settings that checks look at.
var confNames = map[string][]string{
	"ipv4": {"rp_filter", "src_valid_mark", "arp_ignore", "arp_announce"},
	"ipv6": {"forwarding", "accept_ra", "disable_ipv6"},
}

func readConfs(f *doctor.Facts) error {
	var errs []error
	read := func(protocol string) map[string]map[string]int {
		conf := map[string]map[string]int{}
		names := []string{"all"}
		for _, u := range f.Decision.Uplinks {
			names = append(names, u.Name)
		}
		for _, device := range names {
			conf[device] = map[string]int{}
			for _, name := range confNames[protocol] {
				text, err := os.ReadFile(filepath.Join("/proc/sys/net", protocol, "conf", device, name))
				if errors.Is(err, fs.ErrNotExist) { // no such interface, family, or setting of all
					continue
				}
				n, parseErr := strconv.Atoi(strings.TrimSpace(string(text)))
				if err = errors.Join(err, parseErr); err != nil {
					errs = append(errs, err)
					continue
				}
				conf[device][name] = n
			}
		}
		return conf
	}
	f.Conf4, f.Conf6 = read("ipv4"), read("ipv6")
	return errors.Join(errs...)
}

func readMTUs(f *doctor.Facts) error {
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("read links: %w", err)
	}
	f.MTU = map[string]int{}
	for _, l := range links {
		f.MTU[l.Attrs().Name] = l.Attrs().MTU
	}
	return nil
}

// readTunnels reads the files of pinned devices, and where their peers are.
func (h *Host) readTunnels(ctx context.Context, f *doctor.Facts) error {
	var errs []error
	names := f.Decision.Present(f.Decision.PinnedDevices())
	for _, name := range names {
		file, err := h.ReadFile(f.Decision.Observation, name)
		f.Files[name] = file
		errs = append(errs, err)
	}
	details, failed := h.Inspect(ctx, names)
	for _, d := range details {
		for _, p := range d.Peers {
			if p.Endpoint.IsValid() {
				f.Endpoints[d.Name] = append(f.Endpoints[d.Name], p.Endpoint.Addr())
			}
		}
	}
	return errors.Join(append(errs, failed...)...)
}

// readHooks plans an install, and tells what it would do to hooks that there are,
// or of clients whose hook is missing while some other file of ours is there: a
// host that never had an install has hooks of its own.
func readHooks(f *doctor.Facts, caller install.Caller) error {
	tree, err := install.OpenTree("/")
	if err != nil {
		return err
	}
	defer tree.Close()
	has, lookErr := tree.Look()
	lines, err := install.PlanInstall(has, install.Options{Caller: caller})
	if len(install.PlanUninstall(has, false)) == 0 {
		return errors.Join(lookErr, err)
	}
	for _, l := range lines {
		switch l.Act {
		case install.Write:
			lacks := l.Why
			if _, there := has.Files[l.Path]; !there {
				lacks = "missing"
			}
			f.Hooks = append(f.Hooks, doctor.Hook{Path: l.Path, Lacks: lacks})
		case install.Leave:
			f.Hooks = append(f.Hooks, doctor.Hook{Path: l.Path, Lacks: "an administrator has changed it"})
		}
	}
	return errors.Join(lookErr, err)
}
