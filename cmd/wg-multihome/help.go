package main

import (
	"embed"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"wg-multihome/cmd/internal/report"
	"wg-multihome/cmd/internal/screen"
	"wg-multihome/fwmark/spelling"
)

// docs holds a topic a file, doc/TOPIC.md. Its first line is "# TOPIC: what it
// is about". doc/schema has the JSON schemas that belong to the topic json.
//
//go:embed doc/*.md doc/schema/*.json
var docs embed.FS

const (
	docsDir    = "doc"
	schemasDir = "doc/schema"
	jsonTopic  = "json"
)

func (p *program) help() *cobra.Command {
	var manualDir string
	cmd := &cobra.Command{
		Use:   "help [COMMAND | TOPIC | json SCHEMA]",
		Short: "Show help about a command or a topic",
		Long: `Shows the help of a command, or a topic, and both where both have the name.
Without an argument it lists them. The topic json ends with JSON schemas: with the
name of one it shows that alone, to be read by programs.

Exits with 0; 2 there is neither a command, a topic nor a schema of that name.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 && args[0] == jsonTopic {
				args = args[1:]
			}
			return oneArgument("command, topic or schema")(cmd, args)
		},
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		out := cmd.Root().OutOrStdout()
		if manualDir != "" {
			if err := writeManual(cmd.Root(), manualDir); err != nil {
				return p.finish(report.Failed(err))
			}
			return nil
		}
		if len(args) == 2 {
			return showSchema(out, args[1])
		}
		if len(args) == 0 {
			cmd.Root().InitDefaultHelpFlag() // as Execute does
			cmd.Root().InitDefaultVersionFlag()
			if err := cmd.Root().Help(); err != nil {
				return err
			}
			return listTopics(out)
		}
		isTopic := slices.Contains(topics(), args[0])
		if c, _, err := cmd.Root().Find(args); err == nil && c != cmd.Root() {
			c.InitDefaultHelpFlag()
			if err := c.Help(); err != nil || !isTopic {
				return err
			}
			if _, err := io.WriteString(out, "\n"); err != nil {
				return err
			}
		} else if !isTopic {
			return unknownTopic(cmd.Root(), args[0])
		}
		return showTopic(out, args[0])
	}
	cmd.Flags().StringVar(&manualDir, "man", "", "write manual pages into `DIR`, for a package")
	_ = cmd.Flags().MarkHidden("man") // it fails for a flag that is not there alone
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		var words []string
		switch {
		case len(args) == 0:
			words = append(topics(), commands(cmd.Root())...)
		case len(args) == 1 && args[0] == jsonTopic:
			words = schemas()
		}
		return beginning(words, typed), cobra.ShellCompDirectiveNoFileComp
	}
	return cmd
}

func showTopic(out io.Writer, name string) error {
	text, err := docs.ReadFile(path.Join(docsDir, name+".md"))
	if err != nil {
		return err
	}
	shown := plainText(string(text))
	if !screen.UTF8(os.Getenv) {
		shown = screen.ASCII(shown)
	}
	if _, err = io.WriteString(out, shown); err != nil || name != jsonTopic {
		return err
	}
	for _, schema := range schemas() {
		if _, err := fmt.Fprintf(out, "\n%s\n\n", strings.ToUpper(schema)); err != nil {
			return err
		}
		if err := showSchema(out, schema); err != nil {
			return err
		}
	}
	return nil
}

// showSchema shows the JSON schema of a command's answer.
func showSchema(out io.Writer, name string) error {
	text, err := docs.ReadFile(path.Join(schemasDir, name+".json"))
	if err != nil {
		return fmt.Errorf("there is no schema %q, only %s", name, strings.Join(schemas(), ", "))
	}
	_, err = out.Write(text)
	return err
}

// commands are the names of those for people.
func commands(root *cobra.Command) (names []string) {
	for _, c := range root.Commands() {
		if c.IsAvailableCommand() || c.Name() == "help" {
			names = append(names, c.Name())
		}
	}
	return names
}

// topics are their names, sorted.
func topics() []string { return names(docsDir, ".md") }

// schemas are the names of JSON schemas, sorted.
func schemas() []string { return names(schemasDir, ".json") }

// names are those of a folder's files, without the ending that they have.
func names(dir, ending string) []string {
	files, _ := fs.Glob(docs, path.Join(dir, "*"+ending)) // the pattern is a good one
	for i, f := range files {
		files[i] = strings.TrimSuffix(path.Base(f), ending)
	}
	return files
}

func listTopics(out io.Writer) error {
	var b strings.Builder
	b.WriteString("\nTopics, each shown by `wg-multihome help TOPIC`:\n")
	for _, name := range topics() {
		about, err := topicAbout(name)
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "  %-15s %s\n", name, about)
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// topicAbout is what a topic's title says that it is about.
func topicAbout(name string) (string, error) {
	text, err := docs.ReadFile(path.Join(docsDir, name+".md"))
	if err != nil {
		return "", err
	}
	title, _, _ := strings.Cut(string(text), "\n")
	_, about, _ := strings.Cut(title, ": ")
	return about, nil
}

// unknownTopic suggests commands and topics that are spelled nearly so.
func unknownTopic(root *cobra.Command, name string) error {
	return fmt.Errorf("there is no help on %q%s", name, spelling.DidYouMean(name, append(topics(), commands(root)...)))
}

var (
	comment = regexp.MustCompile(`(?m)^<!--.*-->\n+`)
	link    = regexp.MustCompile(`\[([^]]+)\]\([^)]+\)`)
)

// plainText makes what a terminal shows of a topic's Markdown: blocks are
// indented, headings are in capitals, and marks of emphasis are left out.
func plainText(markdown string) string {
	var b strings.Builder
	inside := false
	for _, line := range strings.SplitAfter(comment.ReplaceAllString(markdown, ""), "\n") {
		switch {
		case strings.HasPrefix(line, "```"):
			inside = !inside
		case inside:
			b.WriteString(strings.TrimRight("    "+line, " \n") + "\n")
		case strings.HasPrefix(line, "#"):
			b.WriteString(strings.ToUpper(strings.TrimLeft(line, "# ")))
		default:
			b.WriteString(strings.ReplaceAll(link.ReplaceAllString(line, "$1"), "**", ""))
		}
	}
	return b.String()
}
