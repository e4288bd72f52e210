package install

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var caller = Caller{Path: "/usr/local/sbin/wg-multihome"}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestTableAndFilesAgree: each file is in the table, each of the table is a file, and
// what is written has the origin where it is looked for.
func TestTableAndFilesAgree(t *testing.T) {
	used := map[string]bool{}
	paths := map[string]bool{}
	for _, e := range Table() {
		for _, p := range places(e) {
			if paths[p] {
				t.Errorf("%s is there twice", p)
			}
			paths[p] = true
		}
		if e.Target != "" {
			continue
		}
		used[e.source] = true
		text, err := caller.text(e)
		check(t, err)
		if strings.Contains(text, "@PATH@") || strings.Contains(text, "UNIT-") || strings.Contains(text, "PROGRAM@") || strings.Contains(text, "@ORIGIN") {
			t.Errorf("%s: a place is left:\n%s", e.source, text)
		}
		if !sealed(text) {
			t.Errorf("%s is not sealed:\n%s", e.source, text)
		}
		if (e.Mode&0o111 != 0) != strings.HasPrefix(text, "#!/bin/sh\n") {
			t.Errorf("%s has mode %#o:\n%s", e.source, e.Mode, text)
		}
	}
	entries, err := files.ReadDir("files")
	check(t, err)
	for _, f := range entries {
		if !used[f.Name()] {
			t.Errorf("the table has no %s", f.Name())
		}
	}
}

// TestSealBreaks: whatever is changed in a file, it is no longer ours.
func TestSealBreaks(t *testing.T) {
	for _, e := range Table() {
		if e.Target != "" {
			continue
		}
		text, err := caller.text(e)
		check(t, err)
		for i := range text {
			for _, changed := range []string{text[:i] + text[i+1:], text[:i] + "~" + text[i+1:], text[:i] + "\n" + text[i:]} {
				if changed != text && sealed(changed) {
					t.Fatalf("%s: a change at %d is not seen:\n%s", e.source, i, changed)
				}
			}
		}
	}
	for _, text := range []string{"", "\n", "#!/bin/sh", "#!/bin/sh\n", originBegin, originBegin + "\n"} {
		if sealed(text) {
			t.Errorf("%q is sealed", text)
		}
	}
}

// TestHooksAreShell runs each hook by a program with an awkward name: it is called as
// the client's hook is to call it, and whatever it does, the hook ends with 0.
func TestHooksAreShell(t *testing.T) {
	dir := filepath.Join(t.TempDir(), `it's a "dir" $x %n`)
	program := filepath.Join(dir, "wg-multihome")
	check(t, os.Mkdir(dir, 0o755))
	script := "#!/bin/sh\nfor a; do printf '<%s>' \"$a\"; done\nexit 9\n"
	own := filepath.Join(t.TempDir(), "default.script")
	for _, path := range []string{program, own} {
		check(t, os.WriteFile(path, []byte(script), 0o755))
	}
	c := Caller{Path: program, Flags: []string{"--config", "/etc/a b's"}}
	const flags, sync = "<--config></etc/a b's>", "<sync><--hook>"
	for _, h := range []struct {
		source, first, second string
		want                  string
	}{
		{"dhclient", "", "", flags + "<exit-hook><--client><dhclient>"},
		{"dhcpcd", "", "", flags + "<exit-hook><--client><dhcpcd>"},
		{"udhcpc", "bound", "", "<bound><>" + flags + "<exit-hook><--client><udhcpc><bound>"},
		{"NetworkManager", "wan2", "up", flags + sync},
		{"NetworkManager", "wan2", "dhcp4-change", flags + sync},
		{"NetworkManager", "wan2", "hostname", ""},
		{"ifupdown", "", "", flags + sync},
		{"ppp", "ppp0", "", flags + sync},
	} {
		text, err := c.text(Entry{source: h.source})
		check(t, err)
		// The distribution's script would work on this very host.
		text = strings.ReplaceAll(strings.ReplaceAll(text, "/usr/share/udhcpc/default.script", own), "/etc/udhcpc/default.script", "/nowhere")
		run := exec.Command("sh", "-c", text+"\n", "hook", h.first, h.second)
		run.Env = []string{"PATH=/usr/bin:/bin", "IFACE=wan2"}
		out, err := run.CombinedOutput()
		if err != nil || string(out) != h.want {
			t.Errorf("%s %s %s: %v, %q, want %q", h.source, h.first, h.second, err, out, h.want)
		}
		// A program that has gone is nobody's failure.
		gone := strings.ReplaceAll(strings.ReplaceAll(text, `%n`, `%m`), own, "/nowhere")
		if out, err := exec.Command("sh", "-c", gone+"\n", "hook", h.first, h.second).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s without the program: %v, %q", h.source, err, out)
		}
	}
	for _, iface := range []string{"--all", "lo"} {
		text, err := c.text(Entry{source: "ifupdown"})
		check(t, err)
		run := exec.Command("sh", "-c", text+"\n")
		run.Env = []string{"PATH=/usr/bin:/bin", "IFACE=" + iface}
		if out, err := run.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("ifupdown, %s: %v, %q", iface, err, out)
		}
	}
}

func TestInUnit(t *testing.T) {
	got := inUnit([]string{"/usr/sbin/wg-multihome", `/a b/"c"\$d%e`})
	if want := `/usr/sbin/wg-multihome "/a b/\"c\"\\$$d%%e"`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if _, err := (Caller{Path: "/a\nb"}).text(Table()[0]); err == nil {
		t.Error("a line's end is taken")
	}
}

const dhclientPath = "/etc/dhcp/dhclient-exit-hooks.d/zz-wg-multihome"

// TestPlanInstall has one file in all states.
func TestPlanInstall(t *testing.T) {
	wanted, err := caller.text(Table()[0])
	check(t, err)
	older, err := Caller{Path: "/opt/wg-multihome"}.text(Table()[0])
	check(t, err)
	for name, c := range map[string]struct {
		there *File
		force bool
		want  string
	}{
		"not there":        {nil, false, "+ " + dhclientPath + " (dhclient: /usr/sbin/dhclient is there)"},
		"as it is to be":   {&File{Mode: 0o644, Text: wanted}, false, "= " + dhclientPath},
		"another version":  {&File{Mode: 0o644, Text: older}, false, "+ " + dhclientPath + " (another version)"},
		"another mode":     {&File{Mode: 0o600, Text: wanted}, false, "+ " + dhclientPath + " (mode 0644, it had 0600)"},
		"changed":          {&File{Mode: 0o644, Text: wanted + "# mine\n"}, false, "! " + dhclientPath + " (an administrator's: --force replaces it)"},
		"changed, forced":  {&File{Mode: 0o644, Text: wanted + "# mine\n"}, true, "+ " + dhclientPath + " (--force: it was an administrator's)"},
		"empty":            {&File{Mode: 0o644}, false, "! " + dhclientPath + " (an administrator's: --force replaces it)"},
		"a link":           {&File{Type: fs.ModeSymlink, Mode: 0o777, Target: "/dev/null"}, false, "! " + dhclientPath + " (an administrator's: --force replaces it)"},
		"a link to ours":   {&File{Type: fs.ModeSymlink, Mode: 0o777, Target: "x", Text: wanted}, false, "! " + dhclientPath + " (an administrator's: --force replaces it)"},
		"a folder, forced": {&File{Type: fs.ModeIrregular, Mode: 0o755}, true, "+ " + dhclientPath + " (--force: it was an administrator's)"},
	} {
		f := Facts{Found: map[Client]string{Dhclient: "/usr/sbin/dhclient"}, Files: map[string]File{}}
		if c.there != nil {
			f.Files[dhclientPath] = *c.there
		}
		lines, err := PlanInstall(f, Options{Caller: caller, Force: c.force})
		check(t, err)
		if len(lines) != 1 || lines[0].String() != c.want {
			t.Errorf("%s: %v, want %s", name, lines, c.want)
		}
	}
}

// TestPlanForPackages: all files are written, units where a package has them; and on a
// host that has the package nothing stands in front of its units.
func TestPlanForPackages(t *testing.T) {
	lines, err := PlanInstall(Facts{}, Options{Caller: caller, Package: true})
	check(t, err)
	f := Facts{Found: map[Client]string{Systemd: "/usr/lib/systemd/systemd", WgQuick: "/usr/bin/wg-quick"}, Files: map[string]File{}}
	for _, l := range lines {
		if l.Act != Write || strings.HasPrefix(l.Path, "/etc/systemd") {
			t.Errorf("%s", l)
		}
		f.Files[l.Path] = File{Mode: l.Entry.Mode, Text: l.text}
	}
	if len(lines) != len(Table()) {
		t.Errorf("%d lines for %d files", len(lines), len(Table()))
	}
	lines, err = PlanInstall(f, Options{Caller: Caller{Path: "/opt/other"}})
	check(t, err)
	for _, l := range lines {
		if l.Act != Stands || !strings.HasPrefix(l.Path, "/usr/lib/systemd/system/") {
			t.Errorf("%s", l)
		}
	}
	if len(lines) == 0 {
		t.Error("no units")
	}
}

// TestPlanUninstall removes what is ours, of whatever version and wherever it lies.
func TestPlanUninstall(t *testing.T) {
	f := Facts{Files: map[string]File{"/etc/elsewhere": {}}}
	var want []string
	for _, e := range Table() {
		for _, p := range places(e) {
			text := ""
			if e.Target == "" {
				var err error
				text, err = Caller{Path: "/opt/wg-multihome"}.text(e)
				check(t, err)
				f.Files[p] = File{Mode: 0o600, Text: text}
			} else {
				f.Files[p] = File{Type: fs.ModeSymlink, Target: e.Target}
			}
			want = append(want, "- "+p)
		}
	}
	said := func(force bool) (all []string) {
		for _, l := range PlanUninstall(f, force) {
			all = append(all, l.String())
		}
		return all
	}
	if got := said(false); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	f.Files = map[string]File{dhclientPath: {Mode: 0o644, Text: "mine"}}
	if got := said(false); !slices.Equal(got, []string{"! " + dhclientPath + " (an administrator's: --force removes it)"}) {
		t.Errorf("%q", got)
	}
	if got := said(true); !slices.Equal(got, []string{"- " + dhclientPath + " (--force: it was an administrator's)"}) {
		t.Errorf("%q", got)
	}
}
