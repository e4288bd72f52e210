package man

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"
)

// TestPages: texts of the help as roff, to be read in testdata.
func TestPages(t *testing.T) {
	archive, err := txtar.ParseFile("testdata/pages.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(archive.Files); i += 2 {
		in, want := archive.Files[i], archive.Files[i+1]
		p := New("a-b", 8, "do something", time.Unix(0, 0), "a v1")
		empty := len(p.String())
		exit := ""
		if strings.HasSuffix(in.Name, ".md") {
			p.Markdown(string(in.Data))
		} else {
			exit = p.Text(strings.TrimSpace(string(in.Data)))
		}
		got := p.String()[empty:]
		if exit != "" {
			got += "exit: " + exit + "\n"
		}
		if got != string(want.Data) {
			t.Errorf("%s:\n%s\nwant:\n%s", in.Name, got, want.Data)
		}
	}
}

// TestTitle: what whatis and apropos read.
func TestTitle(t *testing.T) {
	p := New("a-b.toml", 5, "configuration of 'a'", time.Unix(86400, 0), "a v1")
	const want = ".TH A\\-B.TOML 5 1970-01-02 \"a v1\" \"\"\n.nh\n.ad l\n.SH \"NAME\"\na\\-b.toml \\- configuration of \\(aqa\\(aq\n"
	if p.String() != want || p.File() != "a-b.toml.5" {
		t.Errorf("%s: %q", p.File(), p)
	}
}
