package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"time"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/ipc"
	"golang.zx2c4.com/wireguard/tun"
)

// markedBind tells when a device's sockets get a mark.
type markedBind struct {
	conn.Bind
	marked func(uint32)
}

// SetMark sets it.
func (b markedBind) SetMark(mark uint32) error {
	err := b.Bind.SetMark(mark)
	b.marked(mark)
	return err
}

// open makes a wireguard-go device that can be configured by its socket, too.
func open(name, config string, marked func(uint32)) (*device.Device, error) {
	t, err := tun.CreateTUN(name, device.DefaultMTU)
	if err != nil {
		return nil, err
	}
	bind := conn.NewDefaultBind()
	if marked != nil {
		bind = markedBind{bind, marked}
	}
	d := device.NewDevice(t, bind, device.NewLogger(device.LogLevelSilent, ""))
	socket, err := ipc.UAPIOpen(name)
	if err != nil {
		return nil, err
	}
	listener, err := ipc.UAPIListen(name, socket)
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
	go func() {
		<-d.Wait()
		_ = listener.Close() // it is asked nothing any more
	}()
	if config == "" {
		return d, nil
	}
	if err := d.IpcSet(config); err != nil {
		return nil, err
	}
	return d, d.Up()
}

// stays says that this process is to be the device, and not what starts it.
const stays = "WATCHBENCH_STAYS"

// wireguard is the role of what wg-quick starts for a device, and that stays as long as
// it: where a kernel has WireGuard it is not asked.
func wireguard() error {
	if os.Getenv(stays) != "" {
		d, err := open(os.Args[1], "", nil)
		if err != nil {
			return err
		}
		fmt.Println("up")
		<-d.Wait()
		return nil
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), stays+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	_, err = bufio.NewReader(out).ReadString('\n')
	return err
}

// quickFile is the configuration of the full tunnel that wg-quick makes: one of others,
// that no uplink lists.
const quickFile = "/run/wgq.conf"

func tunnelActs() []act {
	var tunnel *device.Device
	return []act{
		{name: "wg-fwmark-off", tunnel: true, second: "wireguard = [\"wg0\"]\n", begin: func(b *bench) (func() error, error) {
			private, public := b.keys.host, b.keys.far.PublicKey()
			d, err := open("wg0", fmt.Sprintf("private_key=%x\npublic_key=%x\nendpoint=%s:%d\nallowed_ip=10.200.0.0/24\n", private[:], public[:], far, wireguardPort), b.marked)
			if err != nil {
				return nil, err
			}
			tunnel = d
			return func() error {
				d.Close()
				return nil
			}, script("ip addr add 10.200.0.1/24 dev wg0; ip link set wg0 up")
		}, do: func(*bench, int) error { return tunnel.IpcSet("fwmark=0\n") }, right: always("fwmark 0x2000")},
		{name: "wg-quick-down", begin: func(b *bench) (func() error, error) {
			text := fmt.Sprintf("[Interface]\nPrivateKey = %s\nAddress = 10.201.0.1/24\n[Peer]\nPublicKey = %s\nAllowedIPs = 0.0.0.0/0\nEndpoint = %s:%d\n",
				b.keys.host, b.keys.far.PublicKey(), far, wireguardPort)
			return func() error { return nil }, os.WriteFile(quickFile, []byte(text), 0o600)
		}, before: func(*bench, int) error { return quick("up") }, do: func(*bench, int) error { return quick("down") },
			since: "- rule 4 lookup main suppress_prefixlength 0", right: always(suppressRules()...)},
	}
}

// marked takes it that a device's sockets have got a mark.
func (b *bench) marked(mark uint32) { b.heard <- said{fmt.Sprintf("fwmark %#x", mark), time.Now()} }

// suppressRules are those of ours that `wg-quick down` deletes by a wildcard.
func suppressRules() (rules []string) {
	const suppress = "lookup main suppress_prefixlength 0 suppress_ifgroup 77"
	for i := 1; i <= uplinks; i++ {
		rules = append(rules, fmt.Sprintf("rule 4 fwmark %#x %s", 0x1000*i, suppress), fmt.Sprintf("rule 4 from 198.51.%d.10 %s", i, suppress))
	}
	return rules
}

func quick(what string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command("wg-quick", what, quickFile)
	cmd.Env = append(os.Environ(), roleVariable+"=wireguard", "WG_QUICK_USERSPACE_IMPLEMENTATION="+self)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("wg-quick %s: %w: %s", what, err, out)
	}
	return nil
}
