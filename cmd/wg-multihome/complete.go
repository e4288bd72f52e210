package main

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"wg-multihome/cmd/internal/decide"
	"wg-multihome/cmd/internal/logging"
	"wg-multihome/fwmark/config"
)

// completeFlags says what the shell may offer where commands do not say it: no
// files but for --config.
func completeFlags(root *cobra.Command) {
	root.CompletionOptions.DisableDefaultCmd = true // there is one of our own
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
	// Both fail for flags that are not there alone.
	_ = root.MarkPersistentFlagFilename("config", "toml")
	_ = root.MarkPersistentFlagDirname("state-dir")
}

// completeRun offers the uplinks that have a mark, and then leaves it to the
// shell to complete the command.
func (p *program) completeRun(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	switch len(args) {
	case 0:
		var uplinks []string
		for _, pin := range p.quietLook(cmd).Pins {
			if !pin.Full {
				uplinks = append(uplinks, pin.Uplink)
			}
		}
		return beginning(uplinks, typed), cobra.ShellCompDirectiveNoFileComp
	case 1:
		return []string{"--"}, cobra.ShellCompDirectiveNoFileComp
	}
	return nil, cobra.ShellCompDirectiveDefault
}

// completeRefresh offers the devices that are listed and not given yet.
func (p *program) completeRefresh(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	devices := slices.DeleteFunc(p.quietLook(cmd).PinnedDevices(), func(d string) bool { return slices.Contains(args, d) })
	return beginning(devices, typed), cobra.ShellCompDirectiveNoFileComp
}

// completeDevice offers the interfaces that there are.
func (p *program) completeDevice(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	var names []string
	for _, l := range p.quietLook(cmd).Facts.Links {
		names = append(names, l.Name)
	}
	return beginning(names, typed), cobra.ShellCompDirectiveNoFileComp
}

// completeService offers the services that are listed: by the unit's name, where
// that is enough.
func (p *program) completeService(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	var names []string
	for _, pin := range p.quietLook(cmd).Pins {
		for _, cgroup := range pin.Cgroups {
			unit := path.Base(cgroup)
			if found, err := config.CgroupPath(unit); err == nil && found == cgroup {
				cgroup = unit
			}
			names = append(names, cgroup)
		}
	}
	return beginning(names, typed), cobra.ShellCompDirectiveNoFileComp
}

// completeMark offers the marks in force, each with its uplink.
func (p *program) completeMark(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	var marks []string
	for _, pin := range p.quietLook(cmd).Pins {
		marks = append(marks, fmt.Sprintf("%#x\t%s", pin.Mark.Value, pin.Uplink))
	}
	return beginning(marks, typed), cobra.ShellCompDirectiveNoFileComp
}

// completeAddress offers the addresses of this host.
func (p *program) completeAddress(cmd *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
	var addresses []string
	for _, a := range p.quietLook(cmd).Facts.Addrs {
		addresses = append(addresses, a.Prefix.Addr().String())
	}
	return beginning(addresses, typed), cobra.ShellCompDirectiveNoFileComp
}

// quietLook looks at the host, and says nothing of what goes wrong: what is
// said while a person types is in the way.
func (p *program) quietLook(cmd *cobra.Command) decide.Decision {
	p.log = logging.Discard()
	s, d, err := p.look(cmd.Context())
	if err != nil {
		return decide.Decision{}
	}
	s.Close()
	return d
}

// beginning returns the words that begin with what was typed, sorted.
func beginning(words []string, typed string) []string {
	words = slices.DeleteFunc(words, func(w string) bool { return !strings.HasPrefix(w, typed) })
	slices.Sort(words)
	return slices.Compact(words)
}
