package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
)

// far is what all packets are sent to, at the other end of each uplink, and the ports:
// of the packets that are marked, and of WireGuard.
const (
	far           = "203.0.113.9"
	markedPort    = 4242
	wireguardPort = 51820
)

// other is the other end of all uplinks, a process in a namespace of its own.
type other struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines *bufio.Reader
}

func (b *bench) openISP() error {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleVariable+"=isp")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	b.isp = &other{cmd, stdin, bufio.NewReader(stdout)}
	if err := cmd.Start(); err != nil {
		return err
	}
	return b.isp.says("there\n")
}

func (o *other) says(want string) error {
	line, err := o.lines.ReadString('\n')
	if err == nil && line != want {
		err = fmt.Errorf("it says %q", line)
	}
	if err != nil {
		return fmt.Errorf("the uplinks' other end: %w", err)
	}
	return nil
}

// begin has it be set up, once it has its devices.
func (o *other) begin(k keys) error {
	public := k.host.PublicKey()
	if _, err := fmt.Fprintf(o.stdin, "private_key=%x listen_port=%d public_key=%x allowed_ip=10.200.0.1/32\n", k.far[:], wireguardPort, public[:]); err != nil {
		return err
	}
	return o.says("up\n")
}

// isp is the role: it answers as a gateway does, has the other end of the tunnels, and
// counts. Its WireGuard's configuration comes as a line.
func isp() error {
	in := bufio.NewReader(os.Stdin)
	fmt.Println("there")
	config, err := in.ReadString('\n')
	if err != nil {
		return err
	}
	if err := script(ispScript()); err != nil {
		return err
	}
	if _, err := open("wg0", strings.ReplaceAll(config, " ", "\n"), nil); err != nil {
		return err
	}
	if err := script("ip addr add 10.200.0.2/24 dev wg0; ip link set wg0 up"); err != nil {
		return err
	}
	fmt.Println("up")
	_, err = io.Copy(io.Discard, in)
	return err
}

func ispScript() string {
	var s strings.Builder
	fmt.Fprintf(&s, "mount --make-rprivate /; mount -t tmpfs none /run; ip link set lo up; ip addr add %s/32 dev lo\n", far)
	for i := 1; i <= uplinks; i++ {
		fmt.Fprintf(&s, `ip link set isp%[1]d up; ip addr add 198.51.%[1]d.1/24 dev isp%[1]d; ip addr add 198.51.%[1]d.2/24 dev isp%[1]d
ip route replace 198.51.%[1]d.0/24 dev isp%[1]d src %[2]s # a tunnel's other end stays there
`, i, far)
	}
	fmt.Fprintf(&s, `nft -f - <<X
table inet seen {
	counter marked_right {}
	counter marked_wrong {}
	counter tunnel_right {}
	counter tunnel_wrong {}
	chain in {
		type filter hook prerouting priority raw
		ip daddr %[1]s udp dport %[2]d iifname isp2 counter name marked_right
		ip daddr %[1]s udp dport %[2]d iifname != isp2 counter name marked_wrong
		ip daddr %[1]s udp dport %[3]d iifname isp2 counter name tunnel_right
		ip daddr %[1]s udp dport %[3]d iifname != isp2 counter name tunnel_wrong
	}
}
X
`, far, markedPort, wireguardPort)
	return s.String()
}

var packetsOf = regexp.MustCompile(`counter (\w+) \{\s+packets (\d+)`)

// seen returns how many packets have come, by the names of the counters.
func (o *other) seen() (map[string]int, error) {
	out, err := exec.Command("nsenter", "--target", strconv.Itoa(o.cmd.Process.Pid), "--net", "nft", "list", "counters").Output()
	if err != nil {
		return nil, fmt.Errorf("read the counters: %w", err)
	}
	seen := map[string]int{}
	for _, m := range packetsOf.FindAllSubmatch(out, -1) {
		if seen[string(m[1])], err = strconv.Atoi(string(m[2])); err != nil {
			return nil, err
		}
	}
	return seen, nil
}
