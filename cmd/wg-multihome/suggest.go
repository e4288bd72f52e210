package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// suggestionDistance is by how many letters a word that is not known may differ
// from one that is, for that one to be suggested.
const suggestionDistance = 2

// suggestFlag adds the flags that a mistyped one may have meant.
func suggestFlag(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) || unknown.GetSpecifiedShortnames() != "" {
		return err
	}
	// Cobra compares the names of commands alone, so flags are put as such.
	flags := &cobra.Command{SuggestionsMinimumDistance: suggestionDistance}
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		flags.AddCommand(&cobra.Command{Use: f.Name, Run: func(*cobra.Command, []string) {}})
	})
	near := flags.SuggestionsFor(unknown.GetSpecifiedName())
	for i := range near {
		near[i] = "--" + near[i]
	}
	return fmt.Errorf("%w%s", err, didYouMean(near))
}

// helpOn is what to type where a command was used wrongly.
func helpOn(cmd *cobra.Command) string {
	help := cmd.Root().Name() + " help"
	if !cmd.HasParent() || cmd.Name() == "help" {
		return help
	}
	return help + " " + cmd.Name()
}

// didYouMean is the question after an unknown word; "" where nothing is near.
func didYouMean(near []string) string {
	if len(near) == 0 {
		return ""
	}
	quoted := make([]string, len(near))
	for i, word := range near {
		quoted[i] = strconv.Quote(word)
	}
	return " (did you mean " + strings.Join(quoted, " or ") + "?)"
}
