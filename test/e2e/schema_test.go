package e2e

import (
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// compiled are the schemas of the program under test, by their names.
var compiled sync.Map

// wantValid holds what a command has printed against its schema, and returns it.
func wantValid(t *testing.T, schema, text string) string {
	t.Helper()
	once, _ := compiled.LoadOrStore(schema, sync.OnceValues(func() (*jsonschema.Schema, error) {
		text, err := exec.Command(binary, "help", "json", schema).Output()
		if err != nil {
			return nil, err
		}
		document, err := jsonschema.UnmarshalJSON(strings.NewReader(string(text)))
		if err != nil {
			return nil, err
		}
		c := jsonschema.NewCompiler()
		c.AssertFormat()
		if err := c.AddResource(schema, document); err != nil {
			return nil, err
		}
		return c.Compile(schema)
	}))
	s, err := once.(func() (*jsonschema.Schema, error))()
	fatal(t, err)
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err == nil {
		err = s.Validate(document)
	}
	if err != nil {
		t.Errorf("%s: %v\n%s", schema, err, text)
	}
	return text
}

// TestHelpJSON: the topic ends with the schemas, and each can be had alone.
func TestHelpJSON(t *testing.T) {
	t.Parallel()
	whole, _ := help(t, 0, "json")
	for _, name := range []string{"doctor", "explain", "follow", "plan", "status"} {
		text, _ := help(t, 0, "json", name)
		wantPart(t, "help json", whole, "\n"+strings.ToUpper(name)+"\n\n"+text)
		wantPart(t, name, text, `"$schema": "https://json-schema.org/draft/2020-12/schema"`)
	}
	_, complaint := help(t, 2, "json", "plans")
	wantPart(t, "help json plans", complaint, `there is no schema "plans", only doctor, explain, follow, plan, status`)
}

// TestPlanAsJSON: steps, and beside them what is said on stderr otherwise.
func TestPlanAsJSON(t *testing.T) {
	l := newLab(t)
	l.Static()
	l.Interfaces(pinned + "\tmultihomed-bogus x\n")
	l.Script("ip rule add pref 100 from 198.51.100.10 lookup 201; ip route add default via 198.51.100.1 dev up2 table 201")
	r := l.MH("plan", "--json")
	wantCode(t, r, 2)
	wantEqual(t, "stderr", r.Stderr, "")
	text := wantValid(t, "plan", r.Stdout)
	for _, part := range []string{`"+ rule 4 97 fwmark 0x2005 unreachable"`, `"our IPv4 rules start at 95, in front of the foreign rule: `, `\"multihomed-bogus\" is not known"`} {
		wantPart(t, "plan", text, part)
	}
	l.Interfaces(pinned)
	wantCode(t, l.MH("plan", "--json", "--exit-code"), 3)
	l.MustMH("sync")
	r = l.MustMH("plan", "--json", "--exit-code")
	wantEqual(t, "stderr", r.Stderr, "")
	wantPart(t, "plan", wantValid(t, "plan", r.Stdout), `"steps": [],`)
}
