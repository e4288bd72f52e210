package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"wg-multihome/fwmark/spelling"
)

// suggestFlag adds the flags that a mistyped one may have meant.
func suggestFlag(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) || unknown.GetSpecifiedShortnames() != "" {
		return err
	}
	name := unknown.GetSpecifiedName()
	var flags []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			flags = append(flags, "--"+f.Name)
		}
	})
	return fmt.Errorf("%w%s", err, spelling.DidYouMean("--"+name, flags))
}

// helpOn is what to type where a command was used wrongly.
func helpOn(cmd *cobra.Command) string {
	help := cmd.Root().Name() + " help"
	if !cmd.HasParent() || cmd.Name() == "help" {
		return help
	}
	return help + " " + cmd.Name()
}
