package cli

import (
	"fmt"
	"io"
	"strings"

	urfave "github.com/urfave/cli/v2"
)

func manCommand(program string) *Command {
	return &Command{
		Name:        "man",
		Hidden:      true, // it is for scripts/install.sh
		Usage:       "print the manual page",
		Description: Describe("In the language of man(7), made of what --help says of every command.", program+" man | man -l -"),
		Before:      NoArgs,
		Action:      func(c *Context) error { return writeManual(c.App.Writer, c.App) },
	}
}

// writeManual writes the page of a program, section 8: what its commands' --help says, and what all have in common.
func writeManual(w io.Writer, app *App) error {
	var b strings.Builder
	upper := strings.ToUpper(app.Name)
	fmt.Fprintf(&b, ".TH %s 8 \"\" \"ssmnet %s\" \"ssmnet\"\n.SH NAME\n%s \\- %s\n", upper, roff(Release()), app.Name, roff(app.Usage))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.B %s\n[\\-\\-dir DIR] COMMAND [flags] ...\n", app.Name)
	if app.Description != "" {
		fmt.Fprintf(&b, ".SH DESCRIPTION\n%s", strings.TrimPrefix(manText(app.Description), ".PP\n"))
	}
	b.WriteString(".SH FLAGS OF EVERY COMMAND\n")
	manFlags(&b, app.Flags)
	b.WriteString(".SH COMMANDS\n")
	Walk(app, func(path []string, c *Command) {
		if c.Hidden {
			return
		}
		fmt.Fprintf(&b, ".SS %s\n%s.\n", roff(synopsis(strings.Join(path, " "), c)), roff(capital(c.Usage)))
		if len(c.Aliases) > 0 {
			fmt.Fprintf(&b, "Also: %s.\n", roff(strings.Join(c.Aliases, ", ")))
		}
		b.WriteString(manText(c.Description))
		manFlags(&b, c.Flags)
	})
	b.WriteString(".SH EXIT STATUS\n")
	for _, s := range statuses {
		fmt.Fprintf(&b, ".TP\n.B %d\n%s\n", s.code, s.meaning)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// statuses are the exit codes as the manual has them.
var statuses = []struct {
	code    int
	meaning string
}{
	{Done, "done"}, {Failed, "failed"}, {Usage, "wrong usage"}, {Unreachable, "the daemon or the KDC is not reachable"},
	{Denied, "denied by policy"}, {NotFound, "not found"}, {Conflict, "conflict, or stale revision"},
	{TestsFailed, "policy tests failed"}, {TimedOut, "timed out"}, {Changes, "a plan found changes"},
}

// manText is a description: paragraphs, and the examples as they are typed.
func manText(description string) string {
	var b strings.Builder
	text, _, _ := strings.Cut(description, exampleMark)
	for p := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		if p != "" {
			fmt.Fprintf(&b, ".PP\n%s\n", roff(p))
		}
	}
	if examples := Examples(description); len(examples) > 0 {
		fmt.Fprintf(&b, ".PP\nExample:\n.PP\n.RS 4\n.nf\n%s\n.fi\n.RE\n", roff(strings.Join(examples, "\n")))
	}
	return b.String()
}

func manFlags(b *strings.Builder, flags []Flag) {
	for _, f := range flags {
		if v, ok := f.(urfave.VisibleFlag); ok && !v.IsVisible() {
			continue
		}
		left, right, _ := strings.Cut(flagLine(f), "\t")
		fmt.Fprintf(b, ".TP\n.B %s\n%s\n", roff(left), roff(right))
	}
}

// roff is s as text of man(7): no line of it begins a request, and a hyphen is one that can be typed.
func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(s)
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") || strings.HasPrefix(l, "'") {
			lines[i] = `\&` + l
		}
	}
	return strings.Join(lines, "\n")
}

func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
