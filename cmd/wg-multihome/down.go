package main

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"wg-multihome/cmd/internal/install"
	"wg-multihome/cmd/internal/systemd"
)

// returns are where hooks and units may lie that bring everything back: beside what
// `install` writes, an administrator may have put another one.
func returns() []string {
	var patterns []string
	for _, path := range append(install.Paths(), "/lib/systemd/system/"+systemd.Guards) {
		patterns = append(patterns, filepath.Join(filepath.Dir(path), "*wg-multihome*"))
	}
	slices.Sort(patterns)
	return slices.Compact(patterns)
}

func (p *program) down() *cobra.Command {
	return &cobra.Command{
		Use:   "down",
		Short: "Remove all that is ours, and nothing else",
		Long: `Takes our marks off WireGuard devices and services' sockets, removes the table
inet wg_multihome and rules and routes of protocol 77, and takes links out of our
group; a pending try ends. Lease records stay. Says which hooks and units will bring
everything back.

Reads: what sync reads.
Writes: rules and routes of protocol 77, the link group of uplinks, the table
inet wg_multihome, marks of WireGuard devices and sockets that carry one of ours,
programs on cgroups, src_valid_mark where sync has set it.
Exits with 0 done, 1 a step failed or another run took longer than 30 s.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := p.begin(true)
			if err != nil {
				return err
			}
			defer s.Close()
			report := s.Down(cmd.Context(), lockWait)
			s.forgetTry(cmd.Context())
			var found []string
			for _, pattern := range returns() {
				files, _ := filepath.Glob(pattern) // the patterns are well-formed
				found = append(found, files...)
			}
			if p.dir().Watched() {
				found = append(found, "`wg-multihome watch`, which runs")
			}
			if len(found) > 0 {
				p.logger().Infof("this will come back, by: %s", strings.Join(found, " "))
			}
			return p.finish(report)
		},
	}
}
