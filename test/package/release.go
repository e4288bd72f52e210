package main

import (
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// release is what the packages of one run have in common.
type release struct {
	version    string
	time       time.Time // of everything that has one
	maintainer string
}

// thisRelease is that of the source tree; both arguments may be "".
func thisRelease(version, epoch string) (release, error) {
	r := release{version: version}
	if epoch == "" {
		var err error
		if epoch, err = git("log", "-1", "--format=%ct"); err != nil {
			return r, fmt.Errorf("SOURCE_DATE_EPOCH is not set, and the commit's time is not known: %w", err)
		}
	}
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil {
		return r, fmt.Errorf("SOURCE_DATE_EPOCH: %w", err)
	}
	r.time = time.Unix(seconds, 0).UTC()
	if r.version == "" {
		commit, err := git("rev-parse", "--short=12", "HEAD")
		if err != nil {
			return r, fmt.Errorf("--version is not given, and the commit is not known: %w", err)
		}
		r.version = "0~git" + r.time.Format("20060102150405") + "." + commit
	}
	return r, nil
}

func git(args ...string) (string, error) { return output(exec.Command("git", args...)) }

// output returns what a command says, without its last line's end.
func output(cmd *exec.Cmd) (string, error) {
	var complaint strings.Builder
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w\n%s", strings.Join(cmd.Args, " "), err, complaint.String())
	}
	return strings.TrimSuffix(string(out), "\n"), nil
}
