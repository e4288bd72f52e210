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
// other argument is the number of the socket that it gets its order from. No
// person types it.
const insideArg = "run-inside"

// Inside reports whether this process was started to become a command. If so, it
// becomes the command, and returns an exit status only where that failed. main
// calls it before all else, so that the command's signals are as they were
// found.
func Inside(args []string) (status int, inside bool) {
	if len(args) != 3 || args[1] != insideArg {
		return 0, false
	}
	log := logging.New(os.Stderr, false)
	fd, err := strconv.Atoi(args[2])
	if err != nil || fd <= 2 {
		log.Errorf("%s is for this program alone", insideArg)
		return report.Usage, true
	}
	syscall.CloseOnExec(fd)
	status, err = become(os.NewFile(uintptr(fd), "order"))
	if err != nil {
		log.Errorf("%s", err)
	}
	return status, true
}

// become waits for its order and carries it out. It returns only where that
// failed. Where the parent went without giving an order, the parent has said
// why, and there is no error.
func become(orders *os.File) (int, error) {
	quit := make(chan os.Signal, 1)
	signal.Notify(quit, syscall.SIGQUIT) // Go's own answer to it is a page of stacks
	go func() {
		<-quit
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
	return o.execute()
}
