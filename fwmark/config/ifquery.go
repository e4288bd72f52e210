package config

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
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
	paths    []string
	stateDir string // "": its own
}

var errNoIfquery = errors.New("ifquery is not installed, so its options are not known")

func (q ifquery) find() (string, error) {
	for _, p := range q.paths {
		if _, err := os.Stat(p); err == nil {
			return p, nil
		}
	}
	return "", errNoIfquery
}

// answer is what ifquery says of a stanza.
type answer struct {
	text string
	err  error
}

// ask returns the answers for several stanzas of a file, in their order. It
// takes one call for each: those for several names run into each other.
func (q ifquery) ask(ctx context.Context, file string, names []string) []answer {
	ctx, cancel := context.WithTimeout(ctx, ifqueryTime)
	defer cancel()
	answers := make([]answer, len(names))
	slots := make(chan struct{}, ifqueryAtOnce)
	for i, name := range names {
		slots <- struct{}{}
		go func() {
			defer func() { <-slots }()
			// Mappings are scripts; what is brought up where, the state tells.
			answers[i].text, answers[i].err = q.call(ctx, "--no-mappings", "--interfaces="+file, "--", name)
		}()
	}
	for range ifqueryAtOnce {
		slots <- struct{}{}
	}
	return answers
}

// state returns the logical name of each interface that is up, by physical
// name.
func (q ifquery) state(ctx context.Context) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, ifqueryTime)
	defer cancel()
	text, err := q.call(ctx, "--state")
	up := map[string]string{}
	for _, line := range strings.Split(text, "\n") {
		if physical, logical, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			up[physical] = logical
		}
	}
	return up, err
}

func (q ifquery) call(ctx context.Context, args ...string) (string, error) {
	path, err := q.find()
	if err != nil {
		return "", err
	}
	if q.stateDir != "" {
		args = slices.Insert(args, 0, "--state-dir="+q.stateDir)
	}
	var out, complaint limited
	cmd := exec.CommandContext(ctx, path, args...) // ifquery, by absolute path
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = &out, &complaint
	// A group of its own, so that nothing that it started outlives it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	err = cmd.Run()
	switch {
	case ctx.Err() != nil:
		return "", fmt.Errorf("ifquery gave no answer within %s", ifqueryTime)
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

// option is one line of ifquery's output.
type option struct{ key, value string }

// parseIfquery reads ifquery's output. A repeated option's further values
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
