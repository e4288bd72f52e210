package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"wg-multihome/cmd/internal/report"
)

// scripts write what has a shell ask this program for completions, see complete.go.
var scripts = map[string]func(root *cobra.Command, w io.Writer) error{
	"bash": func(root *cobra.Command, w io.Writer) error { return root.GenBashCompletionV2(w, true) },
	"zsh":  func(root *cobra.Command, w io.Writer) error { return root.GenZshCompletion(w) },
	"fish": func(root *cobra.Command, w io.Writer) error { return root.GenFishCompletion(w, true) },
}

func (p *program) completion() *cobra.Command {
	shells := slices.Sorted(maps.Keys(scripts))
	return &cobra.Command{
		Use:   "completion SHELL",
		Short: "Print what has bash, fish or zsh complete commands and names",
		Long: `Prints a script for SHELL, which is bash, fish or zsh: by it the tab key completes
commands and flags; uplinks of run; devices of refresh; marks, addresses, devices
and services of explain. bash takes the package bash-completion.

For the shell that it is typed in:
  bash, zsh   source <(wg-multihome completion bash)
  fish        wg-multihome completion fish | source
For good, write it to the file that the shell looks for:
  bash        /etc/bash_completion.d/wg-multihome
  zsh         /usr/local/share/zsh/site-functions/_wg-multihome
  fish        /etc/fish/completions/wg-multihome.fish

Reads: nothing; what status reads, when the tab key asks for names.
Writes: nothing.
Exits with 0; 2 it knows no such shell.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return errors.New("completion takes the name of a shell: " + strings.Join(shells, ", "))
			}
			if scripts[args[0]] == nil {
				return fmt.Errorf("%q is none of the shells %s", args[0], strings.Join(shells, ", "))
			}
			return oneArgument("shell")(cmd, args)
		},
		ValidArgs: shells,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := scripts[args[0]](cmd.Root(), cmd.OutOrStdout()); err != nil {
				return p.finish(report.Failed(err))
			}
			return nil
		},
	}
}
