package main

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write testdata anew: read what has changed")

// module and top lead to the packages of the program.
const (
	module = "wg-multihome/"
	top    = "../.."
)

// TestMessages lists every message that the program can print, to be read in testdata:
// each says what happened, to what, and, where a person is to do something, what to type.
// None is empty, or longer than two lines of 100 characters.
func TestMessages(t *testing.T) {
	const golden = "testdata/messages.txt"
	var b strings.Builder
	packages := productive(t, "cmd/wg-multihome", map[string]bool{})
	for _, dir := range slices.Sorted(maps.Keys(packages)) {
		found := messages(t, dir)
		if len(found) == 0 {
			continue
		}
		fmt.Fprintf(&b, "%s\n", dir)
		for _, m := range slices.Sorted(maps.Keys(found)) {
			fmt.Fprintf(&b, "\t%s\n", m)
			if why := unreadable(m); why != "" {
				t.Errorf("%s: a message %s: %s", dir, why, m)
			}
		}
	}
	got := b.String()
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		t.Errorf("%s is not what the program can print (-): read what is new (+), then go test ./cmd/wg-multihome -run TestMessages -update\n%s", golden, diff)
	}
}

// TestMessagesAreHeldToTheRule: the rule itself finds what is empty, and what is too
// long.
func TestMessagesAreHeldToTheRule(t *testing.T) {
	for m, bad := range map[string]bool{
		`""`: true, `" \n"`: true, `"%s: %w"`: false, `"read %s"`: false, `"a\nb"`: false, `"a\nb\nc"`: true,
		strconv.Quote(strings.Repeat("a b ", 45)): false, strconv.Quote(strings.Repeat("a b ", 51)): true, strconv.Quote(strings.Repeat("%s ", 20)): true,
	} {
		if got := unreadable(m); (got != "") != bad {
			t.Errorf("%s: %q", m, got)
		}
	}
}

var verb = regexp.MustCompile(`%[-+#0-9.\[\]]*[a-zA-Z]`)

// unreadable says what is wrong with a quoted message: "" nothing. What is filled in
// counts as some characters each.
func unreadable(quoted string) string {
	const line, prefix, filled = 100, len("wg-multihome: "), "abcdefghijkl"
	text, err := strconv.Unquote(quoted)
	text = strings.TrimSpace(text)
	switch {
	case err != nil || text == "":
		return "is empty"
	case strings.Count(text, "\n") > 1, prefix+len(verb.ReplaceAllString(text, filled)) > 2*line:
		return "is longer than two lines"
	}
	return ""
}

// productive are the folders of a package and of those of ours that it imports: what
// only tests import is no part of the program.
func productive(t *testing.T, dir string, seen map[string]bool) map[string]bool {
	t.Helper()
	if seen[dir] {
		return seen
	}
	seen[dir] = true
	for _, f := range sources(t, dir) {
		for _, i := range f.Imports {
			name, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			if ours, is := strings.CutPrefix(name, module); is {
				productive(t, ours, seen)
			}
		}
	}
	return seen
}

// sources are a package's files, without tests.
func sources(t *testing.T, dir string) (files []*ast.File) {
	t.Helper()
	names, err := filepath.Glob(path.Join(top, dir, "*.go"))
	if err != nil || len(names) == 0 {
		t.Fatalf("%s: %v", dir, err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") || slices.Contains(languages, path.Join(dir, filepath.Base(name))) {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	return files
}

// messages are what a package has: texts that are given to what prints or makes
// errors, and other texts of several words.
func messages(t *testing.T, dir string) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	for _, f := range sources(t, dir) {
		collect(f, "", found)
	}
	return found
}

// prints are functions, by the last part of their names, whose texts are messages
// whatever they look like.
var prints = map[string]bool{"New": true, "Errorf": true, "Infof": true, "Debugf": true, "Say": true, "refuse": true, "list": true}

// silent are functions whose texts are no messages: they look for them, or are of
// help, of metrics, or of nftables' and BPF's own languages.
var silent = regexp.MustCompile(`^((strings|regexp|filepath)\..*|.*\.(\w+VarP?|Handle|RegisterFlagCompletionFunc|SetVersionTemplate)|describe|counter|prometheus\..*)$`)

// helps are fields of help, and of doctor's longer reasons.
var helps = map[string]bool{"Use": true, "Short": true, "Long": true, "Why": true}

// paragraph is a text of sentences: a reason that doctor gives when it is asked. Messages
// end without a full stop.
var paragraph = regexp.MustCompile(`[\w)"]\.$`)

var words = regexp.MustCompile(`[A-Za-z]{2,}`)

// languages are files whose texts are of nftables and of BPF, for tests to read.
var languages = []string{"nft/expr.go", "nft/ruleset.go", "fwmark/socket/instruction.go"}

// collect adds the messages below a node; of is the function that it is an argument
// of.
func collect(n ast.Node, of string, found map[string]bool) {
	ast.Inspect(n, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ImportSpec, *ast.Field:
			return false
		case *ast.CaseClause: // what it compares with is no message
			for _, s := range n.Body {
				collect(s, "", found)
			}
			return false
		case *ast.KeyValueExpr:
			if key, is := n.Key.(*ast.Ident); is && helps[key.Name] {
				return false
			}
		case *ast.CallExpr:
			name := called(n.Fun)
			collect(n.Fun, "", found)
			for _, a := range n.Args {
				if !silent.MatchString(name) {
					collect(a, name, found)
				}
			}
			return false
		case *ast.BinaryExpr, *ast.BasicLit:
			text, is := template(n.(ast.Expr))
			if !is {
				return true
			}
			if isMessage(text, of) {
				found[strconv.Quote(text)] = true
			}
			return false
		}
		return true
	})
}

// isMessage tells messages from names, paths and forms alone.
func isMessage(text, of string) bool {
	said := words.FindAllString(verb.ReplaceAllString(text, ""), -1)
	switch {
	case paragraph.MatchString(text):
		return false
	case prints[of[strings.LastIndex(of, ".")+1:]]:
		return text == "" || len(said) > 0
	}
	return len(said) > 2 && strings.Contains(strings.TrimSpace(text), " ")
}

// called is a function's name: "fmt.Errorf", or the method's behind a dot.
func called(fun ast.Expr) string {
	switch f := fun.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		if x, is := f.X.(*ast.Ident); is {
			return x.Name + "." + f.Sel.Name
		}
		return "." + f.Sel.Name
	}
	return ""
}

// template is a text that is put together, with %s for what is not known here.
func template(e ast.Expr) (text string, is bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		if e.Kind != token.STRING {
			return "", false
		}
		text, err := strconv.Unquote(e.Value)
		return text, err == nil
	case *ast.BinaryExpr:
		if e.Op != token.ADD {
			return "", false
		}
		left, known := template(e.X)
		right, knownToo := template(e.Y)
		if !known {
			left = "%s"
		}
		if !knownToo {
			right = "%s"
		}
		return left + right, known || knownToo
	}
	return "", false
}
