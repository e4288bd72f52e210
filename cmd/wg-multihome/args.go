package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

// noArguments refuses what follows a command that takes nothing, and says so in
// other words than cobra's.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%s takes no argument, and %q is one", cmd.Name(), args[0])
	}
	return nil
}

// oneArgument refuses what follows the first argument of a command that takes one
// at most, of some kind.
func oneArgument(kind string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > 1 {
			return fmt.Errorf("%s takes one %s, and %q is a second one", cmd.Name(), kind, args[1])
		}
		return nil
	}
}
