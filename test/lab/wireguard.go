package lab

import (
	"bufio"
	"errors"
	"fmt"
	"log"
	"os"
	"strings"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/ipc"
	"golang.zx2c4.com/wireguard/tun"
)

// open makes a wireguard-go device that can be configured by its socket.
func open(args []string) (*device.Device, error) {
	if len(args) != 1 {
		return nil, errors.New("usage: NAME")
	}
	t, err := tun.CreateTUN(args[0], device.DefaultMTU)
	if err != nil {
		return nil, err
	}
	// On stdout it would be no answer, and once nobody reads that it would block.
	complain := &device.Logger{Verbosef: device.DiscardLogf, Errorf: log.New(os.Stderr, "", 0).Printf}
	d := device.NewDevice(t, conn.NewDefaultBind(), complain)
	socket, err := ipc.UAPIOpen(args[0])
	if err != nil {
		return nil, err
	}
	listener, err := ipc.UAPIListen(args[0], socket)
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go d.IpcHandle(c)
		}
	}()
	return d, nil
}

// daemon is what wg-quick starts: it lasts as long as its interface.
func daemon(args []string) error {
	d, err := open(args)
	if err != nil {
		return err
	}
	// Its socket is there before it listens, and wg(8) removes one that refuses.
	if err := os.WriteFile(readyFile+args[0], nil, 0o644); err != nil {
		return err
	}
	<-d.Wait()
	return nil
}

// readyFile, with the device's name behind it, is there once a daemon listens.
const readyFile = "/run/wireguard-go.ready."

// implementation is a WireGuard device, whoever makes it.
type implementation interface {
	IpcSet(config string) error
	IpcGet() (string, error)
	Up() error
	Close()
}

// openAny makes a device of the kernel where it has WireGuard, and else one of
// wireguard-go.
func openAny(args []string) (implementation, error) {
	if len(args) != 1 {
		return nil, errors.New("usage: NAME")
	}
	k, err := openKernel(args[0])
	if k != nil || err != nil {
		return k, err
	}
	return open(args)
}

// wireguard is a WireGuard device: NAME. Its configuration, as of the
// cross-platform protocol, comes on standard input up to an empty line; each
// further line is answered with the device's state and an empty line.
func wireguard(args []string) error {
	d, err := openAny(args)
	if err != nil {
		return err
	}
	defer d.Close()
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
		if strings.HasPrefix(lines.Text(), "set ") {
			if err := d.IpcSet(strings.ReplaceAll(lines.Text()[4:], " ", "\n") + "\n"); err != nil {
				return err
			}
			continue
		}
		state, err := d.IpcGet()
		if err != nil {
			return err
		}
		fmt.Println(state)
	}
	return nil
}
