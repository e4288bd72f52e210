package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// transferPort is where the server of transfers listens.
const transferPort = "6"

// transferSize is how much a transfer moves, bytes: far more than what a
// connection sends before it hears of anything.
const transferSize = 1 << 20

// transferTime bounds a transfer.
const transferTime = 8 * time.Second

// Direction says which way a transfer goes.
type Direction string

// The directions.
const (
	Upload   Direction = "upload"
	Download Direction = "download"
)

// TransferServer starts a server for transfers on an address of far.
func (l *Lab) TransferServer(addr string) {
	l.t.Helper()
	l.Far.Start([]string{roleVariable + "=transfer-server"}, self(l.t), addr)
	Until(l.t, "the server of transfers listens", func() bool {
		return strings.Contains(l.Far.Run("ss", "-Hlnt"), net.JoinHostPort(addr, transferPort)+" ")
	})
}

// Transfer moves some megabytes by TCP between far and a process of the host in
// a cgroup below the mount. It returns "done", or what begins with "error: ".
func (l *Lab) Transfer(cgroup string, way Direction, far string) string {
	l.t.Helper()
	return strings.TrimSpace(l.Try([]string{roleVariable + "=transfer"}, l.inCgroup(cgroup, []string{self(l.t), string(way), far})...).Stdout)
}

// transfer is the role: DIRECTION ADDRESS.
func transfer(args []string) error {
	if len(args) != 2 {
		return errors.New("usage: DIRECTION ADDRESS")
	}
	way := Direction(args[0])
	ctx, cancel := context.WithTimeout(context.Background(), transferTime)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", net.JoinHostPort(args[1], transferPort))
	if err != nil {
		return err
	}
	defer c.Close()
	end, _ := ctx.Deadline()
	if err := c.SetDeadline(end); err != nil {
		return err
	}
	if _, err := c.Write([]byte(way[:1])); err != nil {
		return err
	}
	if way == Upload {
		err = sendAll(c)
	} else {
		err = receiveAll(c)
	}
	if err == nil {
		fmt.Println("done")
	}
	return err
}

// sendAll sends all, and waits until the other side says that it has it.
func sendAll(c net.Conn) error {
	if _, err := c.Write(make([]byte, transferSize)); err != nil {
		return err
	}
	_, err := io.ReadFull(c, make([]byte, 1))
	return err
}

// receiveAll receives all, and says so.
func receiveAll(c net.Conn) error {
	if _, err := io.CopyN(io.Discard, c, transferSize); err != nil {
		return err
	}
	_, err := c.Write([]byte("."))
	return err
}

// transferServer is the role: ADDRESS.
func transferServer(args []string) error {
	if len(args) != 1 {
		return errors.New("usage: ADDRESS")
	}
	return acceptAll(args[0], transferPort, func(c net.Conn) {
		defer c.Close()
		way := make([]byte, 1)
		if _, err := io.ReadFull(c, way); err != nil {
			return
		}
		// The client says what became of it.
		if string(way) == string(Upload[:1]) {
			_ = receiveAll(c)
		} else {
			_ = sendAll(c)
		}
	})
}
