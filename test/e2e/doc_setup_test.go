package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"wg-multihome/test/lab"
)

// setUpTime bounds what apt takes to bring Go, and Go to build the program.
const setUpTime = 10 * time.Minute

// TestSetUp does what README has people do, word by word, on the least that a Debian
// has: it brings Go from that release's archive, builds by that Go alone, and leaves a
// host with two uplinks where nothing is left to do.
func TestSetUp(t *testing.T) {
	blocks := readPapers(t)[0].blocks
	word := func(begin string) string {
		t.Helper()
		for _, b := range blocks {
			if strings.HasPrefix(b.text, begin) {
				return b.text
			}
		}
		t.Fatalf("README has no block that begins with %q", begin)
		return ""
	}
	for release, brings := range map[string]string{"trixie": word("apt update"), "bookworm": word("echo 'deb ")} {
		t.Run(release, func(t *testing.T) {
			l := newLab(t)
			l.Static()
			tree := freshTree(t, l, release)
			tree.apt(t, brings)
			said := tree.run(t, l.Namespace.Command, word("go build -o"))
			t.Logf("%s\n%s", tree.run(t, l.Namespace.Command, "go version"), said)
			for _, family := range []string{"-4", "-6"} {
				wantPart(t, "rules", l.Rules(family), "proto 77")
			}
			l.WantSeen(lab.Far4, two4, 0, two4)
			tree.run(t, l.Namespace.Command, "wg-multihome plan --exit-code")
			tree.run(t, l.Namespace.Command, "wg-multihome uninstall")
			wantNone(t, "rules after uninstall", l.Rules("-4"), "proto 77")
		})
	}
}

// setUpTree is the root of a host.
type setUpTree struct {
	root string
	lab  *lab.Lab
	env  []string
}

// freshTree is a tree of a release, with the project's source in it. What is written
// to it goes with the test. It is mounted in the mount namespace of the lab's host.
func freshTree(t *testing.T, l *lab.Lab, release string) setUpTree {
	t.Helper()
	top, err := filepath.Abs("../..")
	fatal(t, err)
	lower, err := exec.Command(filepath.Join(top, "test/vm/root"), release, "fresh").Output()
	if err != nil {
		t.Fatalf("test/vm/root: %v", err)
	}
	cache := filepath.Join(filepath.Dir(strings.TrimSpace(string(lower))), "apt-"+release, "set-up")
	fatal(t, os.MkdirAll(filepath.Join(cache, "partial"), 0o755))
	settings, err := exec.Command("sh", "-c", "apt-config dump | grep '^Acquire::' | grep -v '^Acquire::Languages'").Output()
	fatal(t, err)
	proxy, err := exec.Command("go", "env", "GOMODCACHE").Output()
	fatal(t, err)
	above := t.TempDir()
	const root = "/run/tree"
	l.Script(fmt.Sprintf(`mkdir %[1]s/upper %[1]s/work %[2]s
mount -t overlay -o lowerdir=%[3]s,upperdir=%[1]s/upper,workdir=%[1]s/work none %[2]s
mkdir -p %[2]s/root/src %[2]s/run/modules
cd %[4]q; cp -r go.mod go.sum cmd fwmark nft policy wg %[2]s/root/src
mount --bind %[5]s %[2]s/run/modules
mount --bind %[6]s %[2]s/var/cache/apt/archives
mount -t proc none %[2]s/proc; mount --rbind /dev %[2]s/dev; mount --rbind /sys %[2]s/sys`,
		above, root, strings.TrimSpace(string(lower)), top, filepath.Join(strings.TrimSpace(string(proxy)), "cache/download"), cache))
	resolv, err := os.ReadFile("/etc/resolv.conf")
	fatal(t, err)
	l.Script("rm -f " + root + "/etc/resolv.conf") // it may be a link
	l.Write(root+"/etc/resolv.conf", string(resolv), 0o644)
	l.Write(root+"/etc/apt/apt.conf.d/99host", string(settings)+"Binary::apt::APT::Keep-Downloaded-Packages \"true\";\nAPT::Get::Assume-Yes \"true\";\n", 0o644) // a person types that
	return setUpTree{root, l, []string{"HOME=/root", "DEBIAN_FRONTEND=noninteractive", "GOTOOLCHAIN=local", "GOPROXY=file:///run/modules", "GOSUMDB=off", "GOFLAGS=-buildvcs=false"}}
}

// apt runs a block that takes the machine's own network, and nothing else of it.
func (tree setUpTree) apt(t *testing.T, block string) {
	t.Helper()
	tree.run(t, func(ctx context.Context, env []string, args ...string) *exec.Cmd {
		cmd := tree.lab.Namespace.Command(ctx, env, args...)
		for i, a := range cmd.Args {
			if a == "--net" {
				cmd.Args = append(append([]string{}, cmd.Args[:i]...), cmd.Args[i+1:]...)
				break
			}
		}
		return cmd
	}, block)
}

// run runs lines of shell in the tree, at the top of the source.
func (tree setUpTree) run(t *testing.T, command func(context.Context, []string, ...string) *exec.Cmd, lines string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), setUpTime)
	defer cancel()
	env := append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, tree.env...)
	out, err := command(ctx, env, "chroot", tree.root, "sh", "-euc", "cd /root/src\n"+lines).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, lines, out)
	}
	return string(out)
}
