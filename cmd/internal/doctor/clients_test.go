package doctor

import (
	"net/netip"
	"slices"
	"testing"

	"wg-multihome/fwmark"
	"wg-multihome/policy"
)

// two are the facts of a host with two uplinks that have an IPv4 address each.
func two() Facts {
	f := facts()
	f.Decision.Uplinks = nil
	for i, name := range []string{"wan1", "wan2"} {
		u := fwmark.Uplink{Name: name, Present: true, Up: true}
		u.Address[fwmark.IPv4] = netip.AddrFrom4([4]byte{198, 51, 100, byte(i + 1)})
		f.Decision.Uplinks = append(f.Decision.Uplinks, u)
		f.Decision.Facts.Links = append(f.Decision.Facts.Links, policy.Link{Name: name})
	}
	f.Decision.Facts.Routes = []policy.Route{defaultBy(fwmark.IPv4, "wan1", policy.ProtocolDHCP, 1002)}
	return f
}

func defaultBy(f fwmark.Family, device string, protocol uint8, metric uint32) policy.Route {
	return policy.Route{Family: f, Table: policy.TableMain, Dst: netip.PrefixFrom(f.Unspecified(), 0), Type: policy.Unicast, Device: device, Protocol: protocol, Metric: metric}
}

// TestChecksOfClients has each fault alone, and beside it what is none.
func TestChecksOfClients(t *testing.T) {
	networkd := func(text string) func(*Facts) {
		return func(f *Facts) {
			f.Networkd = []string{"wan1"}
			f.Texts["/etc/systemd/networkd.conf"] = text
		}
	}
	manager := func(version string, watched bool) func(*Facts) {
		return func(f *Facts) {
			f.Manager, f.Watched, f.Versions = []string{"eth9", "wan2"}, watched, map[Program]string{Manager: version}
		}
	}
	dhclient := func(files ...string) func(*Facts) {
		return func(f *Facts) {
			manager("1.52.1", false)(f)
			for i := 0; i < len(files); i += 2 {
				f.Texts[files[i]] = "[main]\n" + files[i+1] + "\n"
			}
		}
	}
	dhcpcd := func(version string, uplinks ...string) func(*Facts) {
		return func(f *Facts) { f.Dhcpcd, f.Versions = uplinks, map[Program]string{Dhcpcd: version} }
	}
	runs := func(args ...string) func(*Facts) {
		return func(f *Facts) { f.Processes = []Process{{PID: 7, Name: args[0], Args: args}} }
	}
	routes := func(list ...policy.Route) func(*Facts) {
		return func(f *Facts) { f.Decision.Facts.Routes = append(f.Decision.Facts.Routes, list...) }
	}
	const both = "ManageForeignRoutingPolicyRules=no\nManageForeignRoutes=false\n"
	for name, c := range map[string]struct {
		change func(*Facts)
		code   string // "": nothing is found
		severe Severity
	}{
		"nothing":                    {func(*Facts) {}, "", ""},
		"networkd":                   {networkd("[Network]\n"), "WGM001", Error},
		"networkd that spares rules": {networkd("ManageForeignRoutingPolicyRules=no\n"), "WGM001", Warning},
		"networkd that spares both":  {networkd(both), "", ""},
		"networkd of another link":   {func(f *Facts) { f.Networkd = []string{"eth9"} }, "WGM001", Warning},
		"a package's drop-in":        {func(f *Facts) { f.Networkd = []string{"wan1"}; f.Texts[networkdFolders[2]+"/50.conf"] = both }, "", ""},
		"one that another stands before": {func(f *Facts) {
			f.Networkd = []string{"wan1"}
			f.Texts[networkdFolders[2]+"/50.conf"] = both
			f.Texts[networkdFolders[0]+"/50.conf"] = ""
		}, "WGM001", Error},
		"a later name": {func(f *Facts) {
			networkd(both)(f)
			f.Texts[networkdFolders[2]+"/90.conf"] = "ManageForeignRoutes=yes\n"
		}, "WGM001", Warning},
		"NetworkManager of Debian 12":       {manager("1.42.4", false), "WGM002", Error},
		"and watch":                         {manager("1.42.4", true), "", ""},
		"the first that tells":              {manager("1.42.6", false), "", ""},
		"NetworkManager of Debian 13":       {manager("1.52.1", false), "", ""},
		"one of which nothing is known":     {manager("", false), "WGM002", Unknown},
		"one that has none of our uplinks":  {func(f *Facts) { manager("1.42.4", false)(f); f.Manager = []string{"eth9"} }, "", ""},
		"dhclient under it":                 {dhclient("/etc/NetworkManager/NetworkManager.conf", "dhcp=dhclient"), "WGM009", Warning},
		"dhclient, and a package's setting": {dhclient("/etc/NetworkManager/NetworkManager.conf", "dhcp=dhclient", managerFolders[2]+"/z.conf", "dhcp=internal"), "WGM009", Warning},
		"dhclient that was taken back":      {dhclient("/etc/NetworkManager/NetworkManager.conf", "dhcp=dhclient", managerFolders[0]+"/a.conf", "dhcp=internal"), "", ""},
		"dhclient of none of our uplinks": {func(f *Facts) {
			dhclient("/etc/NetworkManager/NetworkManager.conf", "dhcp=dhclient")(f)
			f.Manager = nil
		}, "", ""},
		"dhcpcd of two leases":              {dhcpcd("10.1.0", "wan1", "wan2"), "WGM007", Warning},
		"dhcpcd of one":                     {dhcpcd("9.4.1", "wan1"), "", ""},
		"dhcpcd that is mended":             {dhcpcd("10.3.1", "wan1", "wan2"), "", ""},
		"dhcpcd of no known version":        {dhcpcd("", "wan1", "wan2"), "WGM007", Unknown},
		"udhcpc of the second uplink":       {runs("udhcpc", "-n", "-i", "wan2"), "WGM008", Note},
		"busybox's":                         {runs("busybox", "udhcpc", "-iwan2"), "WGM008", Note},
		"udhcpc of the first":               {runs("udhcpc", "-i", "wan1"), "", ""},
		"another program of that interface": {runs("tcpdump", "-i", "wan2"), "", ""},
		"udhcpc, and a default by it": {func(f *Facts) {
			runs("udhcpc", "-i", "wan2")(f)
			routes(defaultBy(fwmark.IPv4, "wan2", policy.ProtocolBoot, 0))(f)
		}, "", ""},
		"pppd":                      {func(f *Facts) { f.Decision.Facts.Links[1].Kind = "ppp" }, "WGM008", Note},
		"two routers of one metric": {routes(defaultBy(fwmark.IPv6, "wan1", policy.ProtocolRA, 1024), defaultBy(fwmark.IPv6, "wan2", policy.ProtocolRA, 1024)), "WGM026", Note},
		"networkd's, of one metric": {routes(defaultBy(fwmark.IPv4, "wan2", policy.ProtocolDHCP, 1002)), "WGM026", Note},
		"two metrics":               {routes(defaultBy(fwmark.IPv6, "wan1", policy.ProtocolRA, 1024), defaultBy(fwmark.IPv6, "wan2", policy.ProtocolRA, 1025)), "", ""},
		"two routers of one uplink": {routes(defaultBy(fwmark.IPv6, "wan1", policy.ProtocolRA, 1024), defaultBy(fwmark.IPv6, "wan1", policy.ProtocolRA, 1024)), "", ""},
		"an administrator's":        {routes(defaultBy(fwmark.IPv6, "wan1", policy.ProtocolBoot, 1024), defaultBy(fwmark.IPv6, "wan2", policy.ProtocolBoot, 1024)), "", ""},
	} {
		f := two()
		c.change(&f)
		list := Run(f)
		if c.code == "" {
			if len(list) > 0 {
				t.Errorf("%s: %+v", name, list)
			}
			continue
		}
		if len(list) != 1 || list[0].Code != c.code || list[0].Severity != c.severe || list[0].Evidence == "" || list[0].Mend == "" {
			t.Errorf("%s: %+v", name, list)
		}
	}
}

// TestVersions reads what dpkg and apk have, and compares.
func TestVersions(t *testing.T) {
	dpkg := "Package: network-manager\nStatus: install ok installed\nMaintainer: a\n b: c\nVersion: 1.42.4-1+deb12u1\n\n" +
		"Package: dhcpcd-base\nStatus: deinstall ok config-files\nVersion: 9.4.1-24~deb12u4\n\nPackage: other\nStatus: install ok installed\nVersion: 1\n"
	if got := Versions([]byte(dpkg), nil); len(got) != 1 || got[Manager] != "1.42.4" {
		t.Errorf("dpkg: %v", got)
	}
	if got := Versions([]byte("Package: dhcpcd-base\nStatus: install ok installed\nVersion: 1:10.1.0-11\n"), nil); got[Dhcpcd] != "10.1.0" {
		t.Errorf("dpkg, with an epoch: %v", got)
	}
	if got := Versions(nil, []byte("C:Q1\nP:dhcpcd\nV:10.0.6-r0\n\nP:networkmanager\nV:1.46.0-r1\n")); got[Dhcpcd] != "10.0.6" || got[Manager] != "1.46.0" {
		t.Errorf("apk: %v", got)
	}
	older := []string{"1.42.4", "1.42", "1", "0.9.10"}
	for _, v := range []string{"1.42.4", "1.42", "1", "0.9.10", "1.42.6", "1.42.10", "1.43", "2"} {
		if before(v, 1, 42, 6) != slices.Contains(older, v) {
			t.Errorf("%s is older than 1.42.6: %t", v, before(v, 1, 42, 6))
		}
	}
}
