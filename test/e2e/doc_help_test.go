package e2e

import (
	"os/exec"
	"strings"
	"testing"
)

// help runs `wg-multihome help`, which needs no lab.
func help(t *testing.T, code int, args ...string) (stdout, stderr string) {
	t.Helper()
	cmd := exec.Command(binary, append([]string{"help"}, args...)...)
	var out, complaint strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &complaint
	_ = cmd.Run() // its exit status is looked at
	if got := cmd.ProcessState.ExitCode(); got != code {
		t.Errorf("help %v: exit status %d, want %d\n%s%s", args, got, code, &out, &complaint)
	}
	return out.String(), complaint.String()
}

// TestHelpShowsTopics: each topic is listed, and shown as plain text.
func TestHelpShowsTopics(t *testing.T) {
	t.Parallel()
	list, _ := help(t, 0)
	wantPart(t, "help", list, "Available Commands:")
	for _, p := range readPapers(t) {
		topic := p.topic
		if topic == "" {
			continue
		}
		wantPart(t, "help", list, "\n  "+topic+" ")
		text, _ := help(t, 0, topic)
		for _, mark := range []string{"```", "<!--", "**", "\n#"} {
			wantNone(t, "help "+topic, text, mark)
		}
		for _, b := range p.blocks {
			if b.kind != "lab" {
				wantPart(t, "help "+topic, text, "    "+strings.TrimSpace(strings.Split(b.text, "\n")[0])+"\n")
			}
		}
	}
}

// TestHelpOfCommands is what each command's --help shows.
func TestHelpOfCommands(t *testing.T) {
	t.Parallel()
	list, _ := help(t, 0)
	_, list, _ = strings.Cut(list, "Available Commands:\n")
	list, _, _ = strings.Cut(list, "\n\n")
	if strings.Count(list, "\n") < 15 {
		t.Fatalf("help lists\n%s", list)
	}
	topics := map[string]bool{}
	for _, p := range readPapers(t) {
		topics[p.topic] = true
	}
	for _, line := range strings.Split(list, "\n") {
		command := strings.Fields(line)[0]
		text, _ := help(t, 0, command)
		if topics[command] { // its topic follows
			wantPart(t, "help "+command, text, "\n"+strings.ToUpper(command)+": ")
			continue
		}
		want, err := exec.Command(binary, command, "--help").Output()
		fatal(t, err)
		wantEqual(t, "help "+command, text, string(want))
	}
	both, _ := help(t, 0, "install")
	want, err := exec.Command(binary, "install", "--help").Output()
	fatal(t, err)
	if !strings.HasPrefix(both, string(want)+"\nINSTALL: ") {
		t.Errorf("help install:\n%s", both)
	}
}

// TestHelpOfNothing suggests what is spelled nearly so.
func TestHelpOfNothing(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"mark": `"mark" (did you mean "marks"?);`, "tunels": `(did you mean "tunnels"?);`, "snyc": `(did you mean "sync"?);`,
		"xyzzy": `no help on "xyzzy";`, "../doc/marks": `no help on "../doc/marks";`, "": `no help on "";`,
	} {
		out, complaint := help(t, 2, name)
		wantEqual(t, "stdout", out, "")
		wantPart(t, "help "+name, complaint, want)
	}
	help(t, 2, "marks", "tunnels")
}
