package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

// uplinks is how many the host has.
const uplinks = 4

// Where the host has its configuration, and watch its log: /run is the host's own.
const (
	configuration = "/run/watchbench.toml"
	logFile       = "/run/watchbench.log"
)

// host is the role of the host's process: it builds the host, and measures.
func (o options) host() error {
	if err := script("mount --make-rprivate /; mount -t proc none /proc; mount -t tmpfs none /run; ip link set lo up"); err != nil {
		return err
	}
	b := bench{options: o, heard: make(chan said, 10000), keys: newKeys()}
	if err := b.cover(); err != nil {
		return err
	}
	if err := b.openISP(); err != nil {
		return err
	}
	if err := o.build(b.isp.cmd.Process.Pid); err != nil {
		return err
	}
	if err := b.isp.begin(b.keys); err != nil {
		return err
	}
	if err := hear(b.heard); err != nil {
		return err
	}
	if err := configure(""); err != nil {
		return err
	}
	return b.watched()
}

// build makes the host; its uplinks' other ends are in a process's namespace.
func (o options) build(isp int) error {
	var b strings.Builder
	for i := 1; i <= uplinks; i++ {
		fmt.Fprintf(&b, `ip link add wan%[1]d type veth peer name isp%[1]d netns %[2]d; ip link set wan%[1]d up
ip addr add 198.51.%[1]d.10/24 dev wan%[1]d; ip route add default via 198.51.%[1]d.1 dev wan%[1]d metric %[1]d
`, i, isp)
	}
	if o.addresses > 0 {
		fmt.Fprintf(&b, "for i in $(seq 1 %d); do echo addr add 10.50.$((i/250)).$((i%%250+1))/32 dev wan1; done | ip -batch -\n", o.addresses)
	}
	if o.routes > 0 {
		fmt.Fprintf(&b, "for i in $(seq 1 %d); do echo route add blackhole 20.$((i/65536)).$((i/256%%256)).$((i%%256)) table 900; done | ip -batch -\n", o.routes)
	}
	return script(b.String())
}

// configure writes the configuration: a mark for each uplink, and further lines about
// the second one.
func configure(second string) error {
	var toml strings.Builder
	for i := 1; i <= uplinks; i++ {
		fmt.Fprintf(&toml, "[uplink.wan%d]\nfwmark = %#x\n", i, 0x1000*i)
		if i == 2 {
			toml.WriteString(second)
		}
	}
	return os.WriteFile(configuration, []byte(toml.String()), 0o600)
}

// watched runs watch, and measures all that is asked for.
func (b *bench) watched() error {
	watch := exec.Command(os.Getenv(binaryVariable), "watch", "--config", configuration)
	log, err := os.Create(logFile)
	if err != nil {
		return err
	}
	defer log.Close()
	watch.Stderr = log
	watch.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := watch.Start(); err != nil {
		return err
	}
	defer func() {
		_ = watch.Process.Signal(syscall.SIGTERM)
		_ = watch.Wait()
	}()
	b.pid = watch.Process.Pid
	b.quiet(2 * time.Second)
	if err := b.measure(); err != nil {
		text, _ := os.ReadFile(logFile)
		return fmt.Errorf("%w\n%s", err, text[max(0, len(text)-2000):])
	}
	return nil
}

func (b *bench) measure() error {
	for _, a := range acts() {
		if !b.measures(a.name) {
			continue
		}
		if err := b.run(a); err != nil {
			return fmt.Errorf("%s: %w", a.name, err)
		}
	}
	for _, l := range loads() {
		if !b.measures(l.name) {
			continue
		}
		if err := b.under(l); err != nil {
			return fmt.Errorf("%s: %w", l.name, err)
		}
	}
	b.rests()
	return nil
}

// keys are those of the host's tunnels, and of the other end.
type keys struct{ host, far wgtypes.Key }

func newKeys() (k keys) {
	for _, key := range []*wgtypes.Key{&k.host, &k.far} {
		made, err := wgtypes.GeneratePrivateKey()
		if err != nil {
			panic(err) // the system has no random numbers
		}
		*key = made
	}
	return k
}
