package main

import (
	"errors"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"wg-multihome/cmd/internal/screen"
)

// outlive has the process live on when the reader of its output is gone, or its
// terminal: a run that ends halfway leaves rules without a table, and a tunnel
// without its mark. The signals are taken and not ignored, as what is ignored is
// ignored by hooks too; and one that is ignored already, as by nohup(1), is left
// so.
func outlive() {
	signals := []os.Signal{syscall.SIGPIPE, syscall.SIGHUP}
	unread := make(chan os.Signal, 1)
	signal.Notify(unread, slices.DeleteFunc(signals, signal.Ignored)...)
}

// screenOf tells where it is read what a command writes.
func screenOf(w io.Writer) screen.Screen {
	switch w := w.(type) {
	case output:
		return screen.Of(w.file, os.Getenv)
	case *os.File:
		return screen.Of(w, os.Getenv)
	}
	return screen.Screen{}
}

// output writes to stdout. Where nobody reads it any more, what is written is
// gone, and that is no error: whoever reads one line of `plan` wants no more.
type output struct{ file *os.File }

func (o output) Write(text []byte) (int, error) {
	n, err := o.file.Write(text)
	if errors.Is(err, syscall.EPIPE) {
		return len(text), nil
	}
	return n, err
}
