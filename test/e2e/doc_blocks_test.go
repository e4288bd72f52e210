package e2e

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"wg-multihome/test/lab"
)

// installed is where the papers have the program.
const installed = "/usr/local/sbin/wg-multihome"

// docLab is a host for the blocks of a paper.
type docLab struct {
	*lab.Lab
	dir string   // where blocks run
	env []string // of blocks, besides PATH
}

// docLabs make them, by the name that blocks have.
var docLabs = map[string]func(t *testing.T, l *lab.Lab) docLab{
	"wan":   twoUplinks,
	"units": twoUplinks, // TestSystemdPapers has real units of them
	// The example of the shell script, before any lease.
	"example": func(t *testing.T, l *lab.Lab) docLab {
		rename(l, "enp1s0", "enp2s0.5")
		l.Script("ip link set enp1s0 down; ip link set enp2s0.5 down")
		return ownFiles(l)
	},
	// A source tree, Go, and a host with two uplinks.
	"build": func(t *testing.T, l *lab.Lab) docLab {
		l.Static()
		top, err := filepath.Abs("../..")
		fatal(t, err)
		l.Script(fmt.Sprintf("mkdir /run/src; cd %q; cp -r go.mod go.sum cmd fwmark nft policy wg /run/src", top))
		l.Script(packaged)
		noSystemd(l)
		env := []string{"GOFLAGS=-buildvcs=false", "CGO_ENABLED=0"}
		for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOPROXY", "GOROOT"} {
			value, err := exec.Command("go", "env", name).Output()
			fatal(t, err)
			env = append(env, name+"="+strings.TrimSpace(string(value)))
		}
		goTool, err := exec.LookPath("go")
		fatal(t, err)
		return docLab{l, "/run/src", append(env, "PATH=/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin:"+filepath.Dir(goTool))}
	},
	// Somebody without root, where the program was built.
	"sandbox": func(t *testing.T, l *lab.Lab) docLab {
		l.Script(fmt.Sprintf("mkdir -m 1777 /run/tmp; mkdir /run/src; cp %q /run/src/wg-multihome", l.Binary))
		return docLab{l, "/run/src", []string{"TMPDIR=/run/tmp", "DOC_USER=65534"}}
	},
}

// twoUplinks are wan1 and wan2, with static addresses and defaults in main, and
// the program where it is installed.
func twoUplinks(t *testing.T, l *lab.Lab) docLab {
	t.Helper()
	rename(l, "wan1", "wan2")
	l.Script(`ip addr add 192.0.2.10/24 dev wan1; ip addr add 2001:db8:1::10/64 dev wan1 nodad
ip addr add 198.51.100.10/24 dev wan2; ip addr add 2001:db8:2::10/64 dev wan2 nodad
ip route add default via 192.0.2.1 metric 1; ip route add default via 2001:db8:1::1 metric 1
ip route add default via 198.51.100.1 metric 2; ip route add default via 2001:db8:2::1 metric 2`)
	return ownFiles(l)
}

// rename gives the uplinks other names. They are up then.
func rename(l *lab.Lab, one, two string) {
	for old, name := range map[string]string{"up1": one, "up2": two} {
		l.Script(fmt.Sprintf("ip link set %s down; ip link set %[1]s name %s; ip link set %[2]s up", old, name))
	}
}

// packaged gives the host a /usr/lib of its own, the folders that packages bring, and
// a place for the program.
const packaged = `mkdir -p /etc/systemd/system /etc/NetworkManager/dispatcher.d /etc/bash_completion.d
mount -t tmpfs none /usr/local/sbin
mkdir /run/lib /run/lib/upper /run/lib/work
mount -t overlay -o lowerdir=/usr/lib,upperdir=/run/lib/upper,workdir=/run/lib/work none /usr/lib
`

// ownFiles gives the host what packages bring, and the program. What is not its own
// cannot be written.
func ownFiles(l *lab.Lab) docLab {
	l.Script(packaged + fmt.Sprintf("ln -s %q %s; mount -o remount,bind,ro /", l.Binary, installed))
	noSystemd(l)
	return docLab{l, "/", []string{"PATH=/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"}}
}

// noSystemd: no systemd is there to start anything. Files are written, and that is
// all.
func noSystemd(l *lab.Lab) {
	l.Write("/usr/local/sbin/systemctl", `#!/bin/sh
for word; do
	shift
	[ "$word" = --now ] || set -- "$@" "$word"
done
SYSTEMD_OFFLINE=1 exec /usr/bin/systemctl "$@"
`, 0o755)
}

// docEvents are what a comment has happen.
var docEvents = map[string]func(t *testing.T, d docLab){
	"leases": func(t *testing.T, d docLab) {
		for _, c := range []struct{ device, address, router string }{{"enp1s0", "192.168.42.222", "192.168.42.1"}, {"enp2s0.5", "1.2.3.4", "1.2.3.1"}} {
			metric := map[string]string{"enp1s0": "1024", "enp2s0.5": "2048"}[c.device]
			d.Script(fmt.Sprintf("ip link set %[1]s up; ip addr add %[2]s/24 dev %[1]s; ip route add default via %[3]s dev %[1]s metric %[4]s", c.device, c.address, c.router, metric))
			r := d.Event("reason=BOUND", "interface="+c.device, "new_ip_address="+c.address, "new_subnet_mask=255.255.255.0", "new_routers="+c.router)
			wantCode(t, r, 0)
		}
	},
	"sync": func(t *testing.T, d docLab) { d.MustMH("sync") },
	"a mark": func(t *testing.T, d docLab) {
		d.Write("/etc/wg-multihome.toml", fmt.Sprintf("[uplink.wan2]\nfwmark = %#x\n", mark), 0o644)
		d.MustMH("sync")
	},
}

// sh runs lines of shell as their reader would.
func (d docLab) sh(lines string) lab.Result {
	env, command := d.env, []string{"sh", "-euc", `cd "$0"; eval "$1"`, d.dir, lines}
	for _, e := range d.env {
		if user, ok := strings.CutPrefix(e, "DOC_USER="); ok {
			command = append([]string{"setpriv", "--reuid=" + user, "--regid=" + user, "--clear-groups"}, command...)
		}
	}
	return d.Try(env, command...)
}

// do runs a block, and returns what it said on stdout.
func (d docLab) do(t *testing.T, b block) string {
	t.Helper()
	switch b.kind {
	case "lab":
		event := docEvents[b.text]
		if event == nil {
			t.Fatalf("%s: what is %q?", b, b.text)
		}
		event(t, d)
	case "sh":
		r := d.sh(b.text)
		if r.Code != 0 {
			t.Errorf("%s: exit status %d\n%s\n%s%s", b, r.Code, b.text, r.Stdout, r.Stderr)
		}
		return r.Stdout
	case "console":
		d.console(t, b)
	case "toml", "interfaces":
		files := map[string]string{"toml": "/etc/wg-multihome.toml", "interfaces": "/etc/network/interfaces"}
		for kind, file := range files {
			d.Write(file, map[bool]string{true: b.text}[kind == b.kind], 0o644)
		}
		if r := d.MH("plan"); r.Code != 0 {
			t.Errorf("%s: exit status %d of plan\n%s", b, r.Code, r.Stderr)
		}
	}
	return ""
}

// console runs each command, and compares what it says.
func (d docLab) console(t *testing.T, b block) {
	t.Helper()
	for _, part := range strings.Split("\n"+b.text, "\n# ")[1:] {
		command, want, _ := strings.Cut(part, "\n")
		r := d.sh(command)
		if got := unpadded(r.Stdout); r.Code != 0 || got != unpadded(want) {
			t.Errorf("%s: %s: exit status %d\n%s%s\nthe paper has\n%s", b, command, r.Code, got, r.Stderr, want)
		}
	}
}

// unpadded drops blanks and empty lines at the ends.
func unpadded(text string) string {
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " \t")
	}
	return strings.TrimSpace(strings.Join(lines, "\n"))
}

// TestPapers runs what README and the topics have people type, and compares
// what they have it say.
func TestPapers(t *testing.T) {
	for _, p := range readPapers(t) {
		labs := map[string][]block{}
		for i, b := range p.blocks {
			if b.kind == "output" {
				b.lab = p.blocks[i-1].lab
			}
			if b.lab != "" {
				labs[b.lab] = append(labs[b.lab], b)
			}
		}
		for name, blocks := range labs {
			t.Run(p.file+" "+name, func(t *testing.T) {
				if docLabs[name] == nil {
					t.Fatalf("there is no lab %q", name)
				}
				d := docLabs[name](t, newLab(t))
				said := ""
				for _, b := range blocks {
					if b.kind == "output" {
						wantEqual(t, b.String(), unpadded(said), unpadded(b.text))
						continue
					}
					said = d.do(t, b)
				}
			})
		}
	}
}

// docHost is the lab of most blocks, for tests of what a block is good for.
func docHost(t *testing.T) docLab {
	t.Helper()
	return twoUplinks(t, newLab(t))
}
