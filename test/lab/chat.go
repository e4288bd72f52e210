package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"
)

// chatPort is where chat servers listen.
const chatPort = "8"

// Chat is a TCP connection, idle but when something is said.
type Chat struct {
	l     *Lab
	stdin io.Writer
	lines *bufio.Reader
}

// ChatServer starts a server in a namespace, and in a cgroup below the mount if
// one is given, that repeats each line.
func (l *Lab) ChatServer(n *Namespace, cgroup, addr string) {
	l.t.Helper()
	n.Start([]string{roleVariable + "=chat-server"}, l.inCgroup(cgroup, []string{self(l.t), addr})...)
	Until(l.t, "the chat server listens", func() bool { return strings.Contains(n.Run("ss", "-Hlnt"), net.JoinHostPort(addr, chatPort)+" ") })
}

// Chat connects to such a server, likewise.
func (l *Lab) Chat(n *Namespace, cgroup, addr string) *Chat {
	l.t.Helper()
	cmd := n.Command(context.Background(), []string{roleVariable + "=chat"}, l.inCgroup(cgroup, []string{self(l.t), addr})...)
	stdin, stdout := talkTo(l.t, cmd)
	l.t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Wait()
	})
	return &Chat{l, stdin, bufio.NewReader(stdout)}
}

// Say says a line, and returns what came back, or an error's text.
func (c *Chat) Say(line string) string {
	c.l.t.Helper()
	_, err := io.WriteString(c.stdin, line+"\n")
	fatal(c.l.t, err)
	back, err := c.lines.ReadString('\n')
	fatal(c.l.t, err)
	return strings.TrimSpace(back)
}

func chatServer(args []string) error {
	if len(args) != 1 {
		return errors.New("usage: ADDRESS")
	}
	return acceptAll(args[0], chatPort, func(c net.Conn) {
		_, _ = io.Copy(c, c)
		_ = c.Close()
	})
}

// acceptAll serves TCP on an address, each connection by itself.
func acceptAll(addr, port string, serve func(net.Conn)) error {
	listener, err := net.Listen("tcp", net.JoinHostPort(addr, port))
	if err != nil {
		return err
	}
	for {
		c, err := listener.Accept()
		if err != nil {
			return err
		}
		go serve(c)
	}
}

// chatTime bounds one line's way there and back.
const chatTime = 3 * time.Second

func chat(args []string) error {
	if len(args) != 1 {
		return errors.New("usage: ADDRESS")
	}
	c, err := net.DialTimeout("tcp", net.JoinHostPort(args[0], chatPort), chatTime)
	if err != nil {
		return err
	}
	defer c.Close()
	back := bufio.NewReader(c)
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		line := ""
		if err = c.SetDeadline(time.Now().Add(chatTime)); err == nil {
			if _, err = io.WriteString(c, lines.Text()+"\n"); err == nil {
				line, err = back.ReadString('\n')
			}
		}
		if err != nil {
			line = "error: " + err.Error()
		}
		fmt.Println(strings.TrimSpace(line))
	}
	return nil
}
