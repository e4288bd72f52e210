package main

import (
	"fmt"
	"slices"

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

// exclusive refuses a command that is given more than one of some flags, in other words
// than cobra's, and has completion offer no second one.
func exclusive(cmd *cobra.Command, flags ...string) {
	cmd.MarkFlagsMutuallyExclusive(flags...)
	before := cmd.PreRunE
	cmd.PreRunE = func(cmd *cobra.Command, args []string) error {
		given := slices.DeleteFunc(slices.Clone(flags), func(name string) bool { return !cmd.Flags().Changed(name) })
		if len(given) > 1 {
			return fmt.Errorf("%s takes --%s or --%s, not both", cmd.Name(), given[0], given[1])
		}
		if before != nil {
			return before(cmd, args)
		}
		return nil
	}
}
