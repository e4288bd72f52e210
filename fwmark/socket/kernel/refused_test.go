package kernel

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"wg-multihome/fwmark"
	"wg-multihome/fwmark/socket"
)

// TestSocketRefusedByTheKernel has each way in which bpf(2) is refused altogether.
func TestSocketRefusedByTheKernel(t *testing.T) {
	for name, c := range map[string]struct {
		attr   *syscall.SysProcAttr
		filter string
		reason socket.Reason
	}{
		"nobody":             {&syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}, "", socket.Denied},
		"user namespace":     {inUserNamespace(), "", socket.Denied},
		"seccomp with EPERM": {cleanAttr(), "EPERM", socket.Denied},
		"without bpf(2)":     {cleanAttr(), "ENOSYS", socket.NoBPF},
		"without CGROUP_BPF": {cleanAttr(), "EINVAL", socket.NoCgroups}, // which seccomp can only play
	} {
		p := start(t, "", c.attr)
		if c.filter != "" {
			p.do("filter", c.filter)
		}
		for _, word := range []string{"probe", "read"} {
			h := withCgroup(t)
			if said := p.do(word, h.point, h.cgroup); !strings.HasPrefix(said, c.reason.String()) {
				t.Errorf("%s, %s: %q, want %q", name, word, said, c.reason)
			}
		}
	}
	if err := probe(); err != nil {
		t.Errorf("as root: %v", err)
	}
}

// foreign attaches a program of others, which gives the mark 7 where it gives one.
func (h *host) foreign(cgroup string, place socket.Place, flags uint32, code []socket.Instruction) {
	h.t.Helper()
	fd, err := load(place, code, "x_foreign")
	must(h.t, err)
	defer unix.Close(fd)
	dir, err := h.client.open(cgroup)
	must(h.t, err)
	defer dir.Close()
	_, err = bpf(unix.BPF_PROG_ATTACH, &attachAttr{cgroup: uint32(dir.Fd()), program: uint32(fd), attach: placeOf(place).attach, flags: flags})
	must(h.t, err)
}

// TestSocketRefusedByOthers: what is told from reading is what the kernel says, but
// for what it would let us hide.
func TestSocketRefusedByOthers(t *testing.T) {
	const alone, override, multi = 0, unix.BPF_F_ALLOW_OVERRIDE, unix.BPF_F_ALLOW_MULTI
	type at struct {
		cgroup string
		flags  uint32
	}
	for name, c := range map[string]struct {
		others  []at // from above
		refused string
		hides   bool // the kernel would attach ours, and call the other one no more
	}{
		"alone":                      {[]at{{"a/b", alone}}, "a/b", false},
		"override":                   {[]at{{"a/b", override}}, "a/b", false},
		"multi":                      {[]at{{"a/b", multi}}, "", false},
		"alone above":                {[]at{{"a", alone}}, "a", false},
		"override above":             {[]at{{"a", override}}, "a", true},
		"multi above":                {[]at{{"a", multi}}, "", false},
		"override above, over multi": {[]at{{"", override}, {"a", multi}}, "", false},
		"override twice":             {[]at{{"", override}, {"a", override}}, "a", true},
	} {
		for _, place := range socket.Places {
			h := withCgroup(t)
			cgroup := h.make("a/b")
			for _, o := range c.others {
				h.foreign(h.path(o.cgroup), place, o.flags, socket.Nothing())
			}
			why := h.read(cgroup).Refusal(cgroup)
			switch {
			case c.refused == "" && why != nil:
				t.Errorf("%s at %s: %v", name, place, why)
			case c.refused != "" && (why == nil || why.Reason != socket.Exclusive || why.Cgroup != h.path(c.refused) || why.Place != place || why.Program.Name != "x_foreign"):
				t.Errorf("%s at %s: %v", name, place, why)
			}
			step := socket.Step{Cgroup: cgroup, Mark: one, Changes: []socket.Change{{Kind: socket.Attach, Place: place, Mark: one}}}
			_, err := h.client.Apply(context.Background(), step)
			var said *socket.Refusal
			if denied := errors.As(err, &said) && said.Reason == socket.Exclusive; denied != (why != nil && !c.hides) || err != nil && !denied {
				t.Errorf("%s at %s: the kernel says %v", name, place, err)
			}
		}
	}
}

// TestSocketOthersFirst: a program in front of ours that sets a mark wins, and is
// told of; one behind ours does not. Both stay when ours go.
func TestSocketOthersFirst(t *testing.T) {
	h := newHost(t)
	seven := socket.ProgramFor(socket.Create, fwmark.Mark{Value: 7, Mask: fwmark.FullMask}).Code
	for name, first := range map[string]bool{"a": true, "b": false} {
		cgroup := h.make(name)
		if first {
			h.foreign(cgroup, socket.Create, unix.BPF_F_ALLOW_MULTI, seven)
		}
		h.pin(pins{cgroup: one})
		want := uint32(7)
		if !first {
			h.foreign(cgroup, socket.Create, unix.BPF_F_ALLOW_MULTI, seven)
			want = one.Value
		}
		told := h.read(cgroup).Cgroups[cgroup].First
		if len(told) > 0 != first || first && told[0].Name != "x_foreign" {
			t.Errorf("%s: first are %v", name, told)
		}
		p := h.start(name)
		p.do("socket", "s", "udp4")
		if got := p.mark("s"); got != want {
			t.Errorf("%s: mark %#x, want %#x", name, got, want)
		}
		h.pin(pins{})
		if left := h.read(cgroup).Cgroups[cgroup].Places[socket.Create].Programs; len(left) != 1 || left[0].Name != "x_foreign" {
			t.Errorf("%s: left are %v", name, left)
		}
	}
}

// TestSocketForeignBelow: a program of others in a cgroup below hides nothing,
// whatever its flags.
func TestSocketForeignBelow(t *testing.T) {
	for _, flags := range []uint32{0, unix.BPF_F_ALLOW_OVERRIDE, unix.BPF_F_ALLOW_MULTI} {
		h := withCgroup(t)
		h.foreign(h.make("a/b"), socket.Create, flags, socket.Nothing())
		h.pin(pins{h.path("a"): one})
		p := h.start("a/b")
		p.do("socket", "s", "udp4")
		if got := p.mark("s"); got != one.Value {
			t.Errorf("flags %d: mark %#x", flags, got)
		}
	}
}

// TestVerifiersWords: a program that the kernel does not take says why.
func TestSocketVerifiersWords(t *testing.T) {
	_, err := load(socket.Create, []socket.Instruction{{Op: unix.BPF_JMP | unix.BPF_EXIT}}, "x")
	if err == nil || !strings.Contains(err.Error(), "R0") {
		t.Errorf("%v", err)
	}
}
