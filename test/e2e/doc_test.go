package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"wg-multihome/test/lab"
)

// A paper is README, a topic of `wg-multihome help`, or what .github has. Its fenced blocks say in
// their first line what they are, and which lab runs them:
//
//	```sh LAB          runs, and exits with 0
//	```output          what the block in front of it says on stdout
//	```console LAB     lines `# COMMAND`, each with what it says on stdout
//	```toml LAB        is /etc/wg-multihome.toml from then on, without an error
//	```interfaces LAB  is /etc/network/interfaces from then on, without an error
//	```sh              is not run; notRun says why
//	```ini, ```text …  are for people, and for tests that ask for them (docText)
//
// Blocks of one paper and lab run in their order, on one host. A comment
// `<!-- lab: WHAT -->` between them has something happen there (docEvents).
type paper struct {
	file   string // from the top of the tree
	topic  string // "": it is none
	text   string
	blocks []block
}

// block is a fenced block, or a comment for the lab.
type block struct {
	paper string
	line  int
	kind  string // sh, output, …; "lab" for a comment
	lab   string // "": it is not run
	text  string // what the comment says, or the block's lines
}

func (b block) String() string { return fmt.Sprintf("%s, line %d", b.paper, b.line) }

// readPapers reads all papers, README first.
func readPapers(t *testing.T) []paper {
	t.Helper()
	top := "../.."
	if _, err := os.Stat("README.md"); err == nil { // the virtual machine's tests run at the top
		top = "."
	}
	var papers []paper
	for _, pattern := range []string{"README.md", "cmd/wg-multihome/doc/*.md", ".github/*.md"} {
		files, err := filepath.Glob(filepath.Join(top, pattern))
		fatal(t, err)
		if len(files) == 0 {
			t.Fatalf("there is no %s", pattern)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			fatal(t, err)
			name, err := filepath.Rel(top, file)
			fatal(t, err)
			p := paper{file: name, text: string(text), blocks: blocksOf(t, name, string(text))}
			if strings.Contains(pattern, "doc") {
				p.topic = strings.TrimSuffix(filepath.Base(file), ".md")
			}
			papers = append(papers, p)
		}
	}
	return papers
}

func blocksOf(t *testing.T, paper, text string) []block {
	t.Helper()
	const fence, comment = "```", "<!-- lab: "
	var blocks []block
	open := false
	for i, line := range strings.Split(text, "\n") {
		info, isFence := strings.CutPrefix(line, fence)
		what, isComment := strings.CutPrefix(line, comment)
		switch {
		case isFence && open:
			open = false
		case isFence:
			words := append(strings.Fields(info), "", "")
			if words[0] == "" || words[2] != "" {
				t.Fatalf("%s, line %d: %q does not say what the block is", paper, i+1, line)
			}
			blocks = append(blocks, block{paper: paper, line: i + 1, kind: words[0], lab: words[1]})
			open = true
		case open:
			blocks[len(blocks)-1].text += line + "\n"
		case isComment:
			what, lab, ok := strings.Cut(strings.TrimSuffix(what, " -->"), " in ")
			if !ok {
				t.Fatalf("%s, line %d: %q does not say in which lab", paper, i+1, line)
			}
			blocks = append(blocks, block{paper: paper, line: i + 1, kind: "lab", lab: lab, text: what})
		}
	}
	if open {
		t.Fatalf("%s: the last block is open", paper)
	}
	return blocks
}

// docText returns what is to be copied from a paper: the one block that begins
// so, wherever it stands.
func docText(t *testing.T, begin string) string {
	t.Helper()
	var found []block
	for _, p := range readPapers(t) {
		for _, b := range p.blocks {
			if b.kind != "lab" && strings.HasPrefix(b.text, begin) && (len(found) == 0 || found[0].text != b.text) {
				found = append(found, b)
			}
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d different blocks begin with %q: %v", len(found), begin, found)
	}
	return found[0].text
}

// docBlock is docText for the program under test.
func docBlock(t *testing.T, l *lab.Lab, begin string) string {
	t.Helper()
	return strings.ReplaceAll(docText(t, begin), installed, l.Binary)
}

// notRun are the blocks of shell that no lab runs, by their first line, each
// with the reason.
var notRun = map[string]string{
	"apt update && apt install --no-install-recommends golang-go ca-certificates":                             "TestSetUp does it",
	"echo 'deb http://deb.debian.org/debian bookworm-backports main' >/etc/apt/sources.list.d/backports.list": "TestSetUp does it",
	"go run ./test/demo":                                  "TestDemo does it",
	"go run ./test/package /tmp/packages":                 "TestPackage does it",
	"apt install /tmp/packages/wg-multihome_*_amd64.deb":  "TestPackage does it, by dpkg",
	"nmcli connection modify wg0 wireguard.fwmark 0x2005": "takes a running NetworkManager",
	"test/run quick":                                      "is what runs this test",
	"journalctl -t wg-multihome --since today":            "reads the machine's own journal",
}

// TestPapersRunOrSayWhyNot: each block of shell is run, or named here with the
// reason.
func TestPapersRunOrSayWhyNot(t *testing.T) {
	named := map[string]bool{}
	for _, p := range readPapers(t) {
		for _, b := range p.blocks {
			first, _, _ := strings.Cut(b.text, "\n")
			switch b.kind {
			case "lab", "sh", "console", "toml", "interfaces":
				if b.lab == "" && b.kind == "sh" && notRun[first] != "" {
					named[first] = true
				} else if docLabs[b.lab] == nil {
					t.Errorf("%s: no lab runs it: %q", b, first)
				}
			case "output", "ini", "text", "openvpn":
				if b.lab != "" {
					t.Errorf("%s: %s is not run", b, b.kind)
				}
			default:
				t.Errorf("%s: what is %q?", b, b.kind)
			}
		}
	}
	for first := range notRun {
		if !named[first] {
			t.Errorf("no block begins with %q", first)
		}
	}
}

// TestPapersAreInOrder: README is short, and names all topics; a topic begins
// with its name.
func TestPapersAreInOrder(t *testing.T) {
	papers := readPapers(t)
	readme := papers[0].text
	if n := strings.Count(readme, "\n"); n > 150 {
		t.Errorf("README has %d lines", n)
	}
	for _, p := range papers {
		if p.topic == "" {
			continue
		}
		if !strings.HasPrefix(p.text, "# "+p.topic+": ") {
			t.Errorf("%s does not begin with %q", p.file, "# "+p.topic+": ")
		}
		if !strings.Contains(readme, p.topic) {
			t.Errorf("README does not name the topic %s", p.topic)
		}
		for i, line := range strings.Split(p.text, "\n") {
			if n := len([]rune(line)); n > 120 {
				t.Errorf("%s, line %d has %d characters: terminals have 80", p.file, i+1, n)
			}
		}
	}
}
