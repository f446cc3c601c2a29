package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// New makes a program: its commands, --dir in front of them, and the completion, man and version commands.
func New(name, usage, dirEnv, dirDefault string, commands ...*Command) *App {
	return &App{
		Name:     name,
		Usage:    usage,
		Commands: append(commands, completionCommand(name), manCommand(name), versionCommand(name)),
		Flags: []Flag{&StringFlag{
			Name: "dir", Usage: "state directory `DIR`", Value: dirDefault, EnvVars: []string{dirEnv},
			Action: func(c *Context, dir string) error {
				if dir == "" {
					return BadUsage(c, "the state directory has no name: give --dir one, or unset %s", dirEnv)
				}
				return nil
			},
		}},
	}
}

// Dir is the state directory the user chose.
func Dir(c *Context) string { return c.String("dir") }

// In is the path of a file in it.
func In(c *Context, name string) string { return filepath.Join(Dir(c), name) }

// CommandLine is what runs another command of this program on the same directory, for a person to type.
func CommandLine(c *Context, command string) string {
	dir, without := Dir(c), c.App.Flags[0].(*StringFlag)
	if dir == cmp.Or(os.Getenv(without.EnvVars[0]), without.Value) {
		return c.App.Name + " " + command
	}
	return c.App.Name + " --dir " + dir + " " + command
}

// Run runs app on args (program name first, as in os.Args) and gives the exit code. An error is one line on stderr.
// A panic is left alone: it is a bug, and its trace is what there is to see.
func Run(app *App, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	return RunContext(context.Background(), app, args, stdin, stdout, stderr)
}

// RunContext is Run under a context that the actions see as their Context.
func RunContext(ctx context.Context, app *App, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	app.Reader, app.Writer, app.ErrWriter = stdin, stdout, stderr
	err := run(ctx, app, args)
	if err == nil {
		return Done
	}
	if text := line(err, os.Geteuid()); text != "" {
		fmt.Fprintf(stderr, "%s: %s\n", app.Name, strings.TrimPrefix(text, app.Name+": "))
	}
	return Code(err)
}

func run(ctx context.Context, app *App, args []string) error {
	if len(args) == 2 && args[1] == "--version" {
		args = []string{args[0], "version"}
	}
	l, err := parse(app, args)
	if err != nil {
		return err
	}
	if l.Help {
		return writeHelp(app.Writer, app, l.Path, l.cmd)
	}
	if missing := l.missing(); len(missing) > 0 {
		return usageAt(l.Path, "missing %s", strings.Join(missing, ", "))
	}
	tame(app, l.Path)
	return app.RunContext(ctx, l.Args)
}

// tame takes from the library what Run does itself: help, --version, splitting values at commas, printing errors and
// ending the process. path is the command about to run, for the hint of a usage error.
func tame(app *App, path []string) {
	wrong := func(_ *Context, err error, _ bool) error { return usageAt(path, "%s", err) }
	app.HideHelp, app.HideVersion, app.DisableSliceFlagSeparator = true, true, true
	app.ExitErrHandler = func(*Context, error) {}
	app.OnUsageError = wrong
	Walk(app, func(_ []string, c *Command) {
		c.HideHelp = true
		c.OnUsageError = wrong
	})
}

// Walk calls f for every command of app, parents first, with its path (program name first).
func Walk(app *App, f func(path []string, c *Command)) { walk([]string{app.Name}, app.Commands, f) }

func walk(above []string, commands []*Command, f func(path []string, c *Command)) {
	for _, c := range commands {
		path := append(above[:len(above):len(above)], c.Name)
		f(path, c)
		walk(path, c.Subcommands, f)
	}
}

// path is the command c runs, program name first.
func path(c *Context) []string {
	var names []string
	for _, up := range c.Lineage() {
		if up.Command != nil && up.Command.Name != "" {
			names = append([]string{up.Command.Name}, names...)
		}
	}
	return names
}

// Args gives the names after the command, at least least and at most most of them (most < 0: any number). Too few is
// a usage error that quotes the command's ArgsUsage.
func Args(c *Context, least, most int) ([]string, error) {
	args := c.Args().Slice()
	switch {
	case len(args) < least:
		return nil, usageAt(path(c), "missing %s", wanted(c.Command.ArgsUsage, len(args)))
	case most >= 0 && len(args) > most:
		return nil, usageAt(path(c), "unexpected %q", args[most])
	}
	return args, nil
}

// NoArgs is a Before for commands that take flags only.
func NoArgs(c *Context) error {
	_, err := Args(c, 0, 0)
	return err
}

// wanted is the part of an ArgsUsage such as "SRC DST PROTO/PORT" that the arguments do not reach.
func wanted(argsUsage string, have int) string {
	words := strings.Fields(argsUsage)
	if have >= len(words) {
		return "an argument"
	}
	return strings.Join(words[have:], " ")
}

// BadUsage is a usage error about the command c runs, with the hint where its help is.
func BadUsage(c *Context, format string, args ...any) error { return usageAt(path(c), format, args...) }
