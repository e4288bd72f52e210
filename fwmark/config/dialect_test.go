package config

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/tools/txtar"

	"wg-multihome/fwmark"
)

var kinds = map[dialect]string{ifupdown: "ifupdown", ifupdown2: "ifupdown2", ifupdownNG: "ifupdown-ng"}

// packages is the folder of Debian's packages ifupdown2 and ifupdown-ng.
var packages = sync.OnceValues(func() (string, error) {
	cmd := exec.Command("../../test/ifqueries")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	return strings.TrimSpace(string(out)), err
})

// realIfquery returns the path of a real one. ifupdown2 finds its modules, its
// settings and its state where the package has them: in a mount namespace of the
// calling goroutine's thread, which ends with it.
func realIfquery(t *testing.T, kind dialect) string {
	t.Helper()
	if kind == ifupdown {
		return "/usr/sbin/ifquery"
	}
	folder, err := packages()
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(folder, kinds[kind])
	if kind == ifupdown2 {
		runtime.LockOSThread()
		steps := []error{unix.Unshare(unix.CLONE_NEWNS), unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")}
		for _, dir := range []string{"/usr/share", "/etc"} {
			steps = append(steps, unix.Mount("overlay", dir, "overlay", 0, "lowerdir="+root+dir+":"+dir))
		}
		for _, dir := range []string{"/run", "/var/tmp"} {
			steps = append(steps, unix.Mount("none", dir, "tmpfs", 0, ""))
		}
		for _, err := range steps {
			if err != nil {
				t.Fatalf("a place for ifupdown2: %v", err)
			}
		}
	}
	return filepath.Join(root, "sbin/ifquery")
}

// readWith reads a host's files, which are archived below testdata, with a real
// ifquery.
func readWith(t *testing.T, kind dialect, a *txtar.Archive) Config {
	t.Helper()
	path := realIfquery(t, kind)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "state/ifstate"), "", 0o644)
	for _, f := range a.Files {
		text := string(f.Data)
		if f.Name == "state" {
			f.Name = "state/ifstate"
			if kind == ifupdownNG { // counts its users
				text = regexp.MustCompile(`(?m)$`).ReplaceAllString(strings.TrimSpace(text), " 1") + "\n"
			}
		}
		text = strings.NewReplacer("DIR", dir, "{CR}", "\r", "{NUL}", "\x00", "{BOM}", "\ufeff", "{TAB}", "\t").Replace(text)
		write(t, filepath.Join(dir, f.Name), text, 0o644)
	}
	if got := dialectOf(context.Background(), path); got != kind {
		t.Fatalf("%s is taken for %s, and is %s", path, kinds[got], kinds[kind])
	}
	var c Config
	interfaces := filepath.Join(dir, "interfaces")
	c.readInterfaces(context.Background(), readStanzas(interfaces), ifupdownFiles{
		file: interfaces, query: ifquery{paths: []string{path}, state: filepath.Join(dir, "state"), within: 5 * time.Minute}, peers: filepath.Join(dir, "peers"),
	})
	for i := range c.Intents {
		c.Intents[i].Origin = strings.ReplaceAll(c.Intents[i].Origin, dir+"/", "")
	}
	for i := range c.Problems {
		c.Problems[i].Text = strings.ReplaceAll(c.Problems[i].Text, dir+"/", "")
	}
	for i := range c.Notes {
		c.Notes[i] = strings.ReplaceAll(c.Notes[i], dir+"/", "")
	}
	return c
}

// hostShown writes what was read as lines. What ifquery complained of, its version
// decides.
func hostShown(c Config) string {
	var lines []string
	for _, in := range c.Intents {
		words := []string{"uplink " + in.Uplink}
		if in.Uplink == "" {
			words[0] = "no uplink"
		}
		add := func(name string, values ...string) {
			if len(values) > 0 {
				words = append(words, name+" "+strings.Join(values, ","))
			}
		}
		if !in.Mark.IsZero() {
			add("mark", in.Mark.String())
		}
		add("wireguard", in.Devices...)
		add("rotate-port", in.RotatePort...)
		add("cgroups", in.Cgroups...)
		for _, f := range fwmark.Families {
			if in.Gateways[f].IsValid() {
				add("gateway", in.Gateways[f].String())
			}
			if in.StanzaGateways[f].IsValid() {
				add("own gateway", in.StanzaGateways[f].String())
			}
		}
		for _, addr := range slices.SortedFunc(maps.Keys(in.AddressGateways), netip.Addr.Compare) {
			add("address", addr.String()+" by "+in.AddressGateways[addr].String())
		}
		if in.Marking != fwmark.Unsaid {
			add("marking", fmt.Sprint(in.Marking))
		}
		for _, p := range in.Through {
			add("through", p.String())
		}
		for _, p := range in.Sources {
			add("source", p.String())
		}
		lines = append(lines, fmt.Sprintf("%s (%s)", strings.Join(words, " "), in.Origin))
	}
	slices.Sort(lines)
	for _, p := range c.Problems {
		text, _, _ := strings.Cut(p.Text, ": exit status")
		lines = append(lines, "problem: "+text)
	}
	for _, note := range c.Notes {
		lines = append(lines, "note: "+note)
	}
	return strings.Join(append(lines, ""), "\n")
}

// TestDialects reads hosts of testdata with each of the three programs. What they
// agree on is `want`; where they do not, it is `want` and the program's name.
//
// Whatever one of them makes of a file, no mark that stands in it is lost. With
// UPDATE_HOSTS=1 the expectations are written anew, to be read before they are
// kept.
func TestDialects(t *testing.T) {
	files, err := filepath.Glob("testdata/hosts/*.txtar")
	if err != nil || len(files) < 60 {
		t.Fatalf("%d hosts: %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			want := map[string]string{}
			host := &txtar.Archive{Comment: a.Comment}
			for _, f := range a.Files {
				if strings.HasPrefix(f.Name, "want") {
					want[f.Name] = string(f.Data)
				} else {
					host.Files = append(host.Files, f)
				}
			}
			got := map[string]string{}
			for kind, name := range kinds {
				c := readWith(t, kind, &txtar.Archive{Files: slices.Clone(host.Files)})
				got[name] = hostShown(c)
				checkMarks(t, name, c, host)
			}
			if os.Getenv("UPDATE_HOSTS") != "" {
				updateHost(t, file, host, got)
				return
			}
			for _, name := range kinds {
				expected, own := want["want "+name]
				if !own {
					expected = want["want"]
				}
				if !same(got[name], expected) {
					t.Errorf("%s: got\n%swant\n%s", name, got[name], expected)
				}
			}
		})
	}
}

// same compares what was read with what is expected. A `problem?` may be one, or
// none: versions of the program differ.
func same(got, want string) bool {
	for _, line := range strings.Split(want, "\n") {
		if rest, optional := strings.CutPrefix(line, "problem? "); optional {
			want = strings.Replace(want, line+"\n", "", 1)
			got = strings.Replace(got, "problem: "+rest+"\n", "", 1)
		}
	}
	return got == want
}

func updateHost(t *testing.T, file string, host *txtar.Archive, got map[string]string) {
	t.Helper()
	common := got["ifupdown-ng"]
	if got["ifupdown"] == got["ifupdown2"] {
		common = got["ifupdown"]
	}
	host.Files = append(host.Files, txtar.File{Name: "want", Data: []byte(common)})
	for _, name := range []string{"ifupdown", "ifupdown2", "ifupdown-ng"} {
		if got[name] != common {
			host.Files = append(host.Files, txtar.File{Name: "want " + name, Data: []byte(got[name])})
		}
	}
	if err := os.WriteFile(file, txtar.Format(host), 0o644); err != nil {
		t.Fatal(err)
	}
}

var markLine = regexp.MustCompile(`(?m)^\s*multihomed-fwmark\s+(0x[0-9a-f]+)\s*(\{CR\})?$`)

// checkMarks looks for the marks of a host's files in a way of its own.
func checkMarks(t *testing.T, name string, c Config, host *txtar.Archive) {
	t.Helper()
	for _, f := range host.Files {
		for _, match := range markLine.FindAllStringSubmatch(string(f.Data), -1) {
			m, err := fwmark.Parse(match[1])
			held := slices.ContainsFunc(c.Intents, func(in fwmark.Intent) bool { return in.Mark == m }) ||
				slices.ContainsFunc(c.Problems, func(p fwmark.Problem) bool { return slices.Contains(p.Marks, m) })
			if err != nil || !held {
				t.Errorf("%s: mark %s of %s is lost (%v)", name, match[1], f.Name, err)
			}
		}
	}
}
