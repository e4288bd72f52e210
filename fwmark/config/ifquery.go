package config

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

// ifqueryPaths are where ifquery(8) is: a DHCP client's PATH may be anything.
var ifqueryPaths = []string{"/usr/sbin/ifquery", "/sbin/ifquery"}

// Bounds on asking ifquery: for all stanzas together, for what it says of one
// in bytes, and how many are asked at once.
const (
	ifqueryTime   = 5 * time.Second
	ifqueryOutput = 1 << 20
	ifqueryAtOnce = 8
)

// ifquery asks the program of that name.
type ifquery struct {
	paths  []string
	state  string        // where its state is; "": its own place
	within time.Duration // how long it may take; 0: ifqueryTime
}

// bounded bounds in time what is asked by the context.
func (q ifquery) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	within := cmp.Or(q.within, ifqueryTime)
	return context.WithTimeoutCause(ctx, within, fmt.Errorf("ifquery gave no answer within %s", within))
}

// answer is what ifquery says of a stanza.
type answer struct {
	name    string
	options []option
	err     error
}

// askAll returns the answers for several stanzas of a file, and learns by which
// stanza each interface is up. missing says why there is no ifquery.
func (q ifquery) askAll(ctx context.Context, path string, f *found, file string, names []string, missing error) (answers []answer, unknown error) {
	if missing != nil {
		for _, name := range names {
			answers = append(answers, answer{name: name, err: missing})
		}
		return answers, nil
	}
	if f.kind == ifupdown2 && !f.hasOption() {
		// Gateways alone are not worth the time that it takes. It knows no
		// templates, so the text says the same.
		for _, name := range names {
			answers = append(answers, answer{name: name, options: f.options(name)})
		}
		return answers, nil
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.up, unknown = q.standing(ctx, path, f.kind, file)
	}()
	answers = q.ask(ctx, path, f.kind, file, names)
	<-done
	return answers, unknown
}

// ask returns the answers for several stanzas of a file.
func (q ifquery) ask(ctx context.Context, path string, d dialect, file string, names []string) []answer {
	if d == ifupdown2 {
		return askTogether(ctx, path, file, names)
	}
	// It takes one call for each: answers for several names run into each other.
	answers := make([]answer, len(names))
	slots := make(chan struct{}, ifqueryAtOnce)
	for i, name := range names {
		slots <- struct{}{}
		go func() {
			defer func() { <-slots }()
			answers[i] = q.askFor(ctx, path, d, file, name)
		}()
	}
	for range ifqueryAtOnce {
		slots <- struct{}{}
	}
	return answers
}

func (q ifquery) askFor(ctx context.Context, path string, d dialect, file, name string) answer {
	a := answer{name: name}
	var text string
	if d == ifupdownNG {
		text, a.err = run(ctx, path, q.stated(d, "--interfaces", file, "--", name)...)
		a.options = parseNG(text)
	} else {
		// Mappings are scripts; what is brought up where, the state tells.
		text, a.err = run(ctx, path, q.stated(d, "--no-mappings", "--interfaces="+file, "--", name)...)
		a.options = parseIfquery(text)
	}
	return a
}

// stated adds where the state is to flags.
func (q ifquery) stated(d dialect, args ...string) []string {
	switch {
	case q.state == "":
		return args
	case d == ifupdownNG:
		return slices.Insert(args, 0, "--state-file", q.state+"/ifstate")
	}
	return slices.Insert(args, 0, "--state-dir="+q.state)
}

// askTogether asks ifupdown2, which takes a fifth of a second to start, for all
// at once. It answers for all or none, and may answer for more: for the
// interfaces of a range.
func askTogether(ctx context.Context, path, file string, names []string) []answer {
	args := []string{"--format=json", "--interfaces=" + file, "--"}
	if file == interfacesFile {
		args = slices.Delete(args, 1, 2) // it may be told to refuse the flag
	}
	text, err := run(ctx, path, append(args, names...)...)
	answers, wrong := parseTogether(text)
	if err = cmp.Or(err, wrong); err != nil {
		answers = nil
		for _, name := range names {
			answers = append(answers, answer{name: name, err: err})
		}
	}
	return answers
}

// interfacesFile is the file that every ifquery reads by itself.
const interfacesFile = "/etc/network/interfaces"

// standing returns the logical name of each interface that is up, by physical
// name. ifupdown2 has no logical names.
func (q ifquery) standing(ctx context.Context, path string, d dialect, file string) (map[string]string, error) {
	up := map[string]string{}
	var args []string
	switch d {
	case ifupdown2:
		return up, nil
	case ifupdownNG: // it reads the file all the same
		args = q.stated(d, "--interfaces", file, "--state")
	default:
		args = q.stated(d, "--state")
	}
	text, err := run(ctx, path, args...)
	for _, line := range strings.Split(text, "\n") {
		line, _, _ = strings.Cut(strings.TrimSpace(line), " ") // ifupdown-ng counts behind it
		if physical, logical, ok := strings.Cut(line, "="); ok {
			up[physical] = logical
		}
	}
	return up, err
}

func run(ctx context.Context, path string, args ...string) (string, error) {
	var out, complaint limited
	cmd := exec.CommandContext(ctx, path, args...) // ifquery, by absolute path
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = &out, &complaint
	// A group of its own, so that nothing that it started outlives it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		return "", context.Cause(ctx)
	case out.over:
		return "", fmt.Errorf("ifquery said more than %d bytes", ifqueryOutput)
	case err != nil:
		return "", fmt.Errorf("ifquery failed: %w: %s", err, fmt.Sprintf("%.400q", strings.TrimSpace(complaint.kept.String())))
	}
	return out.kept.String(), nil
}

// limited keeps up to ifqueryOutput bytes, and notes that there were more.
type limited struct {
	kept bytes.Buffer // no embedding: io.Copy would use its ReadFrom, which has no limit
	over bool
}

func (l *limited) Write(p []byte) (int, error) {
	if l.kept.Len()+len(p) > ifqueryOutput {
		l.over = true
		return len(p), nil
	}
	return l.kept.Write(p)
}

// option is one option of a stanza. The zero option ends a stanza, where several
// of one name follow each other.
type option struct{ key, value string }

// parseIfquery reads what ifupdown prints. A repeated option's further values
// stand on lines without a key; those of several stanzas of one name follow
// each other, so keys come twice.
func parseIfquery(text string) []option {
	var options []option
	for _, line := range strings.Split(text, "\n") {
		if line == "" {
			continue
		}
		key, value, ok := strings.Cut(line, ":")
		switch {
		case ok && key != "" && !strings.ContainsAny(key, " \t") && (value == "" || value[0] == ' '):
			options = append(options, option{key, strings.TrimSpace(value)})
		case len(options) > 0:
			options = append(options, option{options[len(options)-1].key, strings.TrimSpace(line)})
		}
	}
	return options
}

// parseNG reads what ifupdown-ng prints: the stanza as it could stand in the
// file. Its options are indented.
func parseNG(text string) []option {
	var options []option
	for _, line := range strings.Split(text, "\n") {
		rest := strings.TrimLeft(line, " ")
		if key, value, _ := strings.Cut(rest, " "); key != "" && len(rest) < len(line) {
			options = append(options, option{key, strings.TrimSpace(value)})
		}
	}
	return options
}

// parseTogether reads what ifupdown2 prints as JSON: stanzas, of which several
// may have one name.
func parseTogether(text string) ([]answer, error) {
	var stanzas []struct {
		Name   string         `json:"name"`
		Config map[string]any `json:"config"`
	}
	if text == "" {
		return nil, nil
	}
	if err := json.Unmarshal([]byte(text), &stanzas); err != nil {
		return nil, fmt.Errorf("read what ifquery says: %w", err)
	}
	var answers []answer
	for _, s := range stanzas {
		i := slices.IndexFunc(answers, func(a answer) bool { return a.name == s.Name })
		if i < 0 {
			i = len(answers)
			answers = append(answers, answer{name: s.Name})
		}
		for _, key := range slices.Sorted(maps.Keys(s.Config)) {
			list, several := s.Config[key].([]any)
			if !several {
				list = []any{s.Config[key]}
			}
			for _, v := range list {
				if word, ok := v.(string); ok {
					answers[i].options = append(answers[i].options, option{key, strings.TrimSpace(word)})
				}
			}
		}
		answers[i].options = append(answers[i].options, option{})
	}
	return answers, nil
}
