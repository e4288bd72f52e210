package lab

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/ipc"
	"golang.zx2c4.com/wireguard/tun"
)

// wireguard is a wireguard-go device: NAME. Its configuration, as of the
// cross-platform protocol, comes on standard input up to an empty line; each
// further line is answered with the device's state and an empty line.
func wireguard(args []string) error {
	if len(args) != 1 {
		return errors.New("usage: NAME")
	}
	t, err := tun.CreateTUN(args[0], device.DefaultMTU)
	if err != nil {
		return err
	}
	d := device.NewDevice(t, conn.NewDefaultBind(), device.NewLogger(device.LogLevelError, ""))
	defer d.Close()
	socket, err := ipc.UAPIOpen(args[0])
	if err != nil {
		return err
	}
	listener, err := ipc.UAPIListen(args[0], socket)
	if err != nil {
		return err
	}
	defer listener.Close()
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go d.IpcHandle(c)
		}
	}()
	lines := bufio.NewScanner(os.Stdin)
	var config strings.Builder
	for lines.Scan() && lines.Text() != "" {
		fmt.Fprintln(&config, lines.Text())
	}
	if err := d.IpcSet(config.String()); err != nil {
		return err
	}
	if err := d.Up(); err != nil {
		return err
	}
	fmt.Println("up")
	for lines.Scan() {
		state, err := d.IpcGet()
		if err != nil {
			return err
		}
		fmt.Println(state)
	}
	return nil
}
