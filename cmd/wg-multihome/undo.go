package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
	"wg-multihome/cmd/internal/systemd"
)

// startUndo has a timer of systemd's, or else a process in a session of its own,
// undo a try.
func (p *program) startUndo(ctx context.Context, id string, limit time.Duration) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	// It runs in another folder.
	dir, err := filepath.Abs(p.state)
	if err != nil {
		return err
	}
	file, err := filepath.Abs(p.config)
	if err != nil {
		return err
	}
	args := []string{self, "revert", "--expired", id, "--state-dir", dir}
	if p.named {
		args = append(args, "--config", file)
	}
	if systemd.RunsHere() {
		err := startTimer(ctx, undoUnit(id), limit, args)
		if err == nil {
			return nil
		}
		p.logger().Infof("no timer of systemd's undoes it, but a process: %s", err)
	}
	wait := exec.Command(args[0], args[1:]...) // this program
	wait.Dir, wait.Env = "/", []string{systemd.Path}
	wait.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := wait.Start(); err != nil {
		return err
	}
	return wait.Process.Release()
}

// timerWait bounds how long systemd may take to make a timer.
const timerWait = 25 * time.Second

// startTimer has systemd start a command once that time is over.
func startTimer(ctx context.Context, unit string, after time.Duration, command []string) error {
	ctx, cancel := context.WithTimeout(ctx, timerWait)
	defer cancel()
	run, err := systemd.Command(ctx, "systemd-run", append([]string{"--quiet", "--collect", "--unit", unit,
		"--on-active", fmt.Sprintf("%.3fs", after.Seconds()), "--timer-property=AccuracySec=100ms", "--"}, command...)...)
	if err != nil {
		return err
	}
	if text, err := run.CombinedOutput(); err != nil {
		return fmt.Errorf("systemd-run: %w: %s", err, bytes.TrimSpace(text))
	}
	return nil
}

// undoUnit is the name, without its kind, of the units that undo a try.
func undoUnit(id string) string { return "wg-multihome-undo-" + id }

// stopTimer stops the timer of a try that is pending no more: it would find nothing to
// do. A process that waits finds that by itself.
func (p *program) stopTimer(ctx context.Context, id string) {
	if !systemd.RunsHere() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, timerWait)
	defer cancel()
	stop, err := systemd.Command(ctx, "systemctl", "--quiet", "stop", undoUnit(id)+".timer")
	if err == nil {
		err = stop.Run()
	}
	if err != nil {
		p.logger().Debugf("stop the timer of the try: %s", err)
	}
}
