package run

import (
	"errors"
	"io"
	"os"
	"os/signal"
	"strconv"
	"syscall"

	"wg-multihome/cmd/internal/logging"
	"wg-multihome/cmd/internal/report"
)

// insideArg tells the process that waits to become the command what it is. Its
// other arguments are the numbers of the socket that it gets its order from and,
// where it gets a terminal of its own, of that. No person types it.
const insideArg = "run-inside"

// Inside reports whether this process was started to become a command. If so, it
// becomes the command, and returns an exit status only where that failed, or where
// it supervised the command. main
// calls it before all else, so that the command's signals are as they were
// found.
func Inside(args []string) (status int, inside bool) {
	if len(args) < 3 || len(args) > 4 || args[1] != insideArg {
		return 0, false
	}
	log := logging.New(os.Stderr, false)
	var fds []int
	for _, arg := range args[2:] {
		fd, err := strconv.Atoi(arg)
		if err != nil || fd <= 2 {
			log.Errorf("%s is for this program alone", insideArg)
			return report.Usage, true
		}
		syscall.CloseOnExec(fd)
		fds = append(fds, fd)
	}
	tty := -1
	if len(fds) > 1 {
		tty = fds[1]
	}
	status, err := become(os.NewFile(uintptr(fds[0]), "order"), tty)
	if err != nil {
		log.Errorf("%s", err)
	}
	return status, true
}

// become waits for its order and carries it out. It returns where that failed, and
// where it has supervised the command, in a terminal of its own. Where the parent went without giving an order, the parent has said
// why, and there is no error.
func become(orders *os.File, tty int) (int, error) {
	if tty >= 0 {
		if err := settleInTerminal(tty); err != nil {
			return report.Error, err
		}
	}
	quit := make(chan os.Signal, 1)
	signal.Notify(quit, syscall.SIGQUIT) // Go's own answer to it is a page of stacks
	go func() {
		<-quit // never, once that has stopped
		os.Exit(signalled + int(syscall.SIGQUIT))
	}()
	if _, err := orders.Write([]byte{ready}); err != nil {
		return report.Error, err
	}
	o, err := readOrder(orders)
	if errors.Is(err, io.EOF) {
		return report.Error, nil
	}
	if err != nil {
		return report.Error, err
	}
	if tty >= 0 {
		signal.Stop(quit)
		return o.supervise(orders, tty)
	}
	return o.execute()
}
