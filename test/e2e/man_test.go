package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// manual has the program write its manual pages, and returns their files by name.
func manual(t *testing.T, env ...string) map[string]string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command(binary, "help", "--man", dir)
	cmd.Env = append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Fatalf("%v: %s", err, out)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	fatal(t, err)
	pages := map[string]string{}
	for _, f := range files {
		pages[filepath.Base(f)] = f
	}
	return pages
}

// TestManualPages: man and mandoc find nothing to complain of, whatis finds their
// titles, and what they refer to is there.
func TestManualPages(t *testing.T) {
	t.Parallel()
	pages := manual(t)
	list, _ := help(t, 0)
	_, list, _ = strings.Cut(list, "Available Commands:\n")
	list, _, _ = strings.Cut(list, "\n\n")
	want := map[string]bool{"wg-multihome.7": true, "wg-multihome.toml.5": true}
	for _, line := range strings.Split(list, "\n") {
		want["wg-multihome-"+strings.Fields(line)[0]+".8"] = true
	}
	reference := regexp.MustCompile(`(wg-multihome[a-z.-]*)\(([0-9])\)`)
	for name, file := range pages {
		if !want[name] {
			t.Errorf("%s is of no command", name)
		}
		delete(want, name)
		wantSilent(t, "sh", "-c", `LC_ALL=C.UTF-8 MANROFFSEQ= MANWIDTH=80 man --warnings -E UTF-8 -l -Tutf8 -Z "$0" >/dev/null`, file)
		wantSilent(t, "mandoc", "-T", "lint", file)
		title, err := exec.Command("lexgrog", file).CombinedOutput()
		if prefix := fmt.Sprintf("%s: \"%s - ", file, strings.TrimSuffix(name, filepath.Ext(name))); err != nil || !strings.HasPrefix(string(title), prefix) {
			t.Errorf("%s: %v: %s", name, err, title)
		}
		text := shownPage(t, file)
		for _, m := range reference.FindAllStringSubmatch(text, -1) {
			if pages[m[1]+"."+m[2]] == "" {
				t.Errorf("%s refers to %s", name, m[0])
			}
		}
	}
	for name := range want {
		t.Errorf("there is no %s", name)
	}
}

// wantSilent runs a command that says nothing where all is well.
func wantSilent(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v: %v\n%s", args, err, out)
	}
}

// shownPage is a page as a terminal shows it, in lines that are long enough for all
// that a test looks for.
func shownPage(t *testing.T, file string) string {
	t.Helper()
	cmd := exec.Command("man", "-l", "-Tutf8", file)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "MANWIDTH=200", "MAN_KEEP_FORMATTING=", "PAGER=cat", "GROFF_NO_SGR=1")
	text, err := cmd.Output()
	fatal(t, err)
	return regexp.MustCompile(".\b").ReplaceAllString(string(text), "")
}

// TestManualSaysWhatHelpSays: each flag, and each sentence, of a command's help is in
// its page, and the topics are in theirs.
func TestManualSaysWhatHelpSays(t *testing.T) {
	t.Parallel()
	pages := manual(t)
	flag := regexp.MustCompile(`(?m)^ +(-v, )?--[a-z-]+`)
	for name, file := range pages {
		text := strings.Join(strings.Fields(shownPage(t, file)), " ")
		command := strings.TrimSuffix(strings.TrimPrefix(name, "wg-multihome-"), ".8")
		if command == name { // of no command
			continue
		}
		said, err := exec.Command(binary, command, "--help").Output()
		fatal(t, err)
		for _, f := range flag.FindAllString(string(said), -1) {
			wantPart(t, name, text, strings.TrimSpace(f))
		}
		first, _, _ := strings.Cut(string(said), "\n\n")
		wantPart(t, name, text, strings.ReplaceAll(strings.Join(strings.Fields(first), " "), "`", ""))
	}
	for page, parts := range map[string][]string{
		"wg-multihome.toml.5": {"multihomed-fwmark 0x2005", "hook-timeout up to"}, "wg-multihome.7": {"leaves by that uplink or is refused.", "troubleshooting what to look at", "watch.lock held while watch runs"},
		"wg-multihome-doctor.8": {"WGM016 two uplinks in one subnet. Linux answers ARP"},
	} {
		for _, part := range parts {
			wantPart(t, page, strings.Join(strings.Fields(shownPage(t, pages[page])), " "), part)
		}
	}
}

// TestManualIsReproducible: with a date that is given, the pages are the same each
// time.
func TestManualIsReproducible(t *testing.T) {
	t.Parallel()
	const epoch = "SOURCE_DATE_EPOCH=86400"
	first, again := manual(t, epoch), manual(t, epoch)
	for name := range first {
		one, err := os.ReadFile(first[name])
		fatal(t, err)
		two, err := os.ReadFile(again[name])
		fatal(t, err)
		wantEqual(t, name, string(two), string(one))
		wantPart(t, name, string(one), " 1970-01-02 ")
	}
}
