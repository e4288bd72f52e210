package main

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"wg-multihome/cmd/internal/doctor"
	"wg-multihome/cmd/internal/man"
)

// Sections of the manual, man-pages(7).
const (
	fileFormats = 5
	overview    = 7
	commandsOf  = 8 // of an administrator
)

// writeManual writes the manual pages into a folder: what a package has, made when
// it is built.
func writeManual(root *cobra.Command, dir string) error {
	date, err := manualDate()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("write manual pages: %w", err)
	}
	pages, err := manual(root, date)
	if err != nil {
		return err
	}
	for _, p := range pages {
		if err := os.WriteFile(filepath.Join(dir, p.File()), []byte(p.String()), 0o644); err != nil {
			return fmt.Errorf("write manual pages: %w", err)
		}
	}
	return nil
}

// manualDate is that of the pages: SOURCE_DATE_EPOCH, as reproducible builds have it,
// else that of the program's revision, else today.
func manualDate() (time.Time, error) {
	if text := os.Getenv("SOURCE_DATE_EPOCH"); text != "" {
		seconds, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH=%q is no number of seconds", text)
		}
		return time.Unix(seconds, 0), nil
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if at, err := time.Parse(time.RFC3339, s.Value); s.Key == "vcs.time" && err == nil {
				return at, nil
			}
		}
	}
	return time.Now(), nil
}

// manual is all pages: of the program, of its configuration, and of each command.
func manual(root *cobra.Command, date time.Time) ([]*man.Page, error) {
	about, err := overviewPage(root, date)
	if err != nil {
		return nil, err
	}
	file, err := configurationPage(root, date)
	if err != nil {
		return nil, err
	}
	pages := []*man.Page{about, file}
	for _, c := range root.Commands() {
		if c.IsAvailableCommand() || c.Name() == "help" {
			pages = append(pages, commandPage(c, date))
		}
	}
	return pages, nil
}

func newPage(root *cobra.Command, name string, section int, about string, date time.Time) *man.Page {
	version := ""
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		version = " " + info.Main.Version
	}
	return man.New(name, section, about, date, root.Name()+version)
}

// overviewPage tells what the program is for, and what there is to read.
func overviewPage(root *cobra.Command, date time.Time) (*man.Page, error) {
	p := newPage(root, root.Name(), overview, lowered(root.Short), date)
	p.Heading("description")
	p.Text(root.Long)
	if err := topicInto(p, "promise"); err != nil {
		return nil, err
	}
	p.Heading("commands")
	for _, name := range commands(root) {
		c, _, err := root.Find([]string{name})
		if err != nil {
			return nil, err
		}
		p.Item(reference(c), c.Short)
	}
	p.Heading("topics")
	p.Paragraph("Each is shown by `" + root.Name() + " help TOPIC`.")
	for _, name := range topics() {
		about, err := topicAbout(name)
		if err != nil {
			return nil, err
		}
		p.Item(man.Bold(name), about)
	}
	for _, topic := range []string{"files", "exit-status"} {
		p.Heading(strings.ReplaceAll(topic, "-", " "))
		if err := topicInto(p, topic); err != nil {
			return nil, err
		}
	}
	seeAlso(p, "wg-multihome.toml(5)", "wg-multihome-sync(8)", "ip-rule(8)", "wg(8)", "nft(8)")
	return p, nil
}

func configurationPage(root *cobra.Command, date time.Time) (*man.Page, error) {
	p := newPage(root, root.Name()+".toml", fileFormats, "configuration of wg-multihome", date)
	p.Heading("description")
	if err := topicInto(p, "configuration"); err != nil {
		return nil, err
	}
	p.Heading("files")
	p.Item(man.Italic(configFile), "the configuration, where --config names no other file")
	p.Item(man.Italic(interfacesFile), "options of uplinks, too")
	seeAlso(p, "wg-multihome(7)", "interfaces(5)", "wg-quick(8)")
	return p, nil
}

// commandPage is what `help` says of a command.
func commandPage(c *cobra.Command, date time.Time) *man.Page {
	root := c.Root()
	p := newPage(root, root.Name()+"-"+c.Name(), commandsOf, lowered(c.Short), date)
	p.Heading("synopsis")
	use := strings.TrimPrefix(c.Use, c.Name())
	if !strings.Contains(use, "[flags]") {
		use = " [flags]" + use
	}
	p.Paragraph("`" + root.Name() + " " + c.Name() + "`" + use)
	p.Heading("description")
	exit := p.Text(c.Long)
	if c.Name() == "doctor" {
		p.Heading("checks")
		for _, check := range doctor.Checks() {
			p.Item(man.Bold(check.Code), check.Title+". "+check.Why)
		}
	}
	p.Heading("options")
	c.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) { option(p, f) })
	root.PersistentFlags().VisitAll(func(f *pflag.Flag) { option(p, f) })
	p.Heading("exit status")
	p.Paragraph(exit)
	seeAlso(p, "wg-multihome(7)", "wg-multihome.toml(5)")
	return p
}

func option(p *man.Page, f *pflag.Flag) {
	if f.Hidden {
		return
	}
	value, usage := pflag.UnquoteUsage(f)
	term := man.Bold("--" + f.Name)
	if f.Shorthand != "" {
		term = man.Bold("-"+f.Shorthand) + ", " + term
	}
	if value != "" {
		term += " " + man.Italic(value)
	}
	switch f.DefValue {
	case "", "0", "0s", "false", "[]":
	default:
		usage += "; " + f.DefValue + " unless it is given"
	}
	p.Item(term, usage)
}

// topicInto writes a topic's text into a page.
func topicInto(p *man.Page, topic string) error {
	text, err := docs.ReadFile(path.Join(docsDir, topic+".md"))
	if err == nil {
		p.Markdown(string(text))
	}
	return err
}

func seeAlso(p *man.Page, pages ...string) {
	p.Heading("see also")
	p.Paragraph(strings.Join(pages, ", "))
}

// reference is a command's page, to be looked up.
func reference(c *cobra.Command) string {
	return man.Bold(c.Root().Name()+"-"+c.Name()) + fmt.Sprintf("(%d)", commandsOf)
}

// lowered is a line for the list of pages, whose words begin in lower case.
func lowered(line string) string { return strings.ToLower(line[:1]) + line[1:] }
