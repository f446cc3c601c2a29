package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	urfave "github.com/urfave/cli/v2"
)

const exampleMark = "Example:\n"

// Describe makes a command's Description: a text of any length (which may be empty) and at least one example, each the
// whole line as it is typed.
func Describe(text string, examples ...string) string {
	d := strings.TrimSpace(text)
	if d != "" {
		d += "\n\n"
	}
	return d + exampleMark + "  " + strings.Join(examples, "\n  ")
}

// Examples gives the examples that Describe put into a description.
func Examples(description string) []string {
	_, tail, found := strings.Cut(description, exampleMark)
	if !found {
		return nil
	}
	var lines []string
	for text := range strings.Lines(tail) {
		if text = strings.TrimSpace(text); text != "" {
			lines = append(lines, text)
		}
	}
	return lines
}

// Check says what a program's command tree lacks: every command a usage and an example that parses, every command
// without others under it an action, every flag a usage. Empty: nothing.
func Check(app *App) (problems []string) {
	Walk(app, func(path []string, c *Command) {
		name := strings.Join(path, " ")
		add := func(format string, args ...any) {
			problems = append(problems, name+": "+fmt.Sprintf(format, args...))
		}
		if c.Usage == "" {
			add("no usage")
		}
		if c.Action == nil && len(c.Subcommands) == 0 {
			add("no action")
		}
		for _, f := range c.Flags {
			if d, ok := f.(urfave.DocGenerationFlag); !ok || d.GetUsage() == "" {
				add("flag %s has no usage", dashed(f.Names()[0]))
			}
		}
		examples := Examples(c.Description)
		if len(examples) == 0 {
			add("no example")
		}
		for _, example := range examples {
			if err := checkExample(app, path, example); err != nil {
				add("example %q: %v", example, err)
			}
		}
	})
	return problems
}

// checkExample parses the part of an example that runs the command; a pipe or redirection around it is left to the
// shell.
func checkExample(app *App, path []string, example string) error {
	words := strings.Fields(strings.NewReplacer("<(", " ", "$(", " ", ")", " ").Replace(example))
	start := slices.Index(words, app.Name)
	if start < 0 {
		return fmt.Errorf("does not run %s", app.Name)
	}
	words = words[start:]
	if end := slices.IndexFunc(words, func(w string) bool { return strings.ContainsAny(w[:1], "|><;&#") }); end > 0 {
		words = words[:end]
	}
	l, err := parse(app, words)
	if err != nil {
		return err
	}
	if !slices.Equal(l.Path[:min(len(path), len(l.Path))], path) {
		return fmt.Errorf("runs %s", strings.Join(l.Path, " "))
	}
	return nil
}

// writeHelp writes the help of a command, or with c nil of the program: usage, text with examples, commands, flags.
func writeHelp(w io.Writer, app *App, path []string, c *Command) error {
	if c == nil {
		c = &Command{Usage: app.Usage, Description: app.Description, Flags: app.Flags, Subcommands: app.Commands}
	}
	var b strings.Builder
	name := strings.Join(path, " ")
	fmt.Fprintf(&b, "%s - %s\n\nUsage:\n  %s\n", name, c.Usage, synopsis(name, c))
	if len(c.Aliases) > 0 {
		fmt.Fprintf(&b, "  also: %s\n", strings.Join(c.Aliases, ", "))
	}
	if c.Description != "" {
		fmt.Fprintf(&b, "\n%s\n", strings.TrimRight(c.Description, "\n"))
	}
	section(&b, "Commands", commandLines(c.Subcommands))
	section(&b, "Flags", flagLines(c.Flags))
	if len(path) > 1 {
		fmt.Fprintf(&b, "\nFlags of every command: see '%s --help'\n", app.Name)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func synopsis(name string, c *Command) string {
	words := []string{name}
	if len(c.Flags) > 0 {
		words = append(words, "[flags]")
	}
	if len(c.Subcommands) > 0 {
		words = append(words, "COMMAND")
	}
	if c.ArgsUsage != "" {
		words = append(words, c.ArgsUsage)
	}
	return strings.Join(words, " ")
}

// section writes lines of "left\tright" under a title.
func section(b *strings.Builder, title string, lines []string) {
	if len(lines) == 0 {
		return
	}
	fmt.Fprintf(b, "\n%s:\n", title)
	t := tabwriter.NewWriter(b, 0, 8, 2, ' ', 0)
	for _, l := range lines {
		fmt.Fprintf(t, "  %s\n", l)
	}
	t.Flush() // into memory
}

func commandLines(commands []*Command) (lines []string) {
	for _, c := range commands {
		if !c.Hidden {
			lines = append(lines, c.Name+"\t"+c.Usage)
		}
	}
	return lines
}

func flagLines(flags []Flag) (lines []string) {
	for _, f := range flags {
		if v, ok := f.(urfave.VisibleFlag); ok && !v.IsVisible() {
			continue
		}
		lines = append(lines, flagLine(f))
	}
	return lines
}

// flagLine is "--name, -n VALUE	what it does (default 3) [$ENV]". The value's name is the word between backquotes in
// the usage, as in package flag.
func flagLine(f Flag) string {
	var names []string
	for _, n := range f.Names() {
		names = append(names, dashed(n))
	}
	left := strings.Join(names, ", ")
	d, ok := f.(urfave.DocGenerationFlag)
	if !ok {
		return left + "\t"
	}
	right, value := describe(f)
	if d.TakesValue() {
		left += " " + value
		if s, ok := f.(urfave.DocGenerationSliceFlag); ok && s.IsSliceFlag() {
			left += " ..."
		}
	}
	if text := defaultText(d); text != "" {
		right += " (default " + text + ")"
	}
	for _, env := range d.GetEnvVars() {
		right += " [$" + env + "]"
	}
	return left + "\t" + right
}

// describe gives a flag's usage without the backquotes, and the word between them: the name of its value.
func describe(f Flag) (usage, value string) {
	d, ok := f.(urfave.DocGenerationFlag)
	if !ok {
		return "", "VALUE"
	}
	usage = d.GetUsage()
	if before, rest, found := strings.Cut(usage, "`"); found {
		if quoted, after, closed := strings.Cut(rest, "`"); closed {
			return before + quoted + after, quoted
		}
	}
	return usage, "VALUE"
}

// defaultText is a flag's default where it says something: not an empty text, nor false, nor zero.
func defaultText(d urfave.DocGenerationFlag) string {
	switch text := strings.Trim(d.GetDefaultText(), `"`); text {
	case "false", "0", "0s":
		return ""
	default:
		return text
	}
}
