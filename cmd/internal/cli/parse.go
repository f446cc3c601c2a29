package cli

import (
	"fmt"
	"os"
	"slices"
	"strings"

	urfave "github.com/urfave/cli/v2"
)

// typed is a command line put in order.
type typed struct {
	Path  []string // the program and the commands under it, by their proper names: kdc, peer, add
	Names []string // what stands after them and is not a flag
	Help  bool     // --help, -h or "help" in front
	Args  []string // the whole, as the library wants it: program, its flags, command, its flags, "--", names
	flags []string // canonical names of the flags given for the last command
	cmd   *Command // the last command; nil for the program itself
}

// level is one command on the way, with the flags given for it.
type level struct {
	name  string
	cmd   *Command
	flags []Flag
	subs  []*Command
	given []string // "--name=value", in the order typed
	set   []string // canonical names of the same
}

// parse puts args (program name first, as in os.Args) in order. It is pure: it only reads app's commands and flags.
//
//   - A flag is -name or --name; its value follows "=" or is the next argument whatever that looks like, so that
//     "--tag -T" removes a tag and "-n -5" is a number. A bool flag takes a value after "=" only.
//   - Flags of a command may stand before or after its names. A flag the command does not have is looked for in the
//     commands above it, so "--dir" may also follow the verb.
//   - "--" ends the flags. A lone "-" is a name (standard input).
//
// What does not fit the tree is a usage error that names the help to read.
func parse(app *App, args []string) (*typed, error) {
	p := &parser{levels: []*level{{name: app.Name, flags: app.Flags, subs: app.Commands}}}
	rest := args[min(1, len(args)):]
	for len(rest) > 0 {
		n, err := p.next(rest)
		if err != nil {
			return nil, err
		}
		rest = rest[n:]
	}
	if err := p.complete(); err != nil {
		return nil, err
	}
	return p.line(), nil
}

// parser is the state of one parse.
type parser struct {
	levels []*level // from the program to the command reached
	names  []string
	help   bool
	ended  bool // "--" has been seen
}

func (p *parser) last() *level { return p.levels[len(p.levels)-1] }

// next takes one flag, command or name off args and says how many arguments it was.
func (p *parser) next(args []string) (int, error) {
	arg := args[0]
	switch {
	case p.ended || arg == "-" || !strings.HasPrefix(arg, "-"):
		return 1, p.word(arg)
	case arg == "--":
		p.ended = true
		return 1, nil
	}
	return p.flag(args)
}

// word takes a command or, where the command reached has none under it, a name.
func (p *parser) word(arg string) error {
	at := p.last()
	if len(at.subs) == 0 {
		p.names = append(p.names, arg)
		return nil
	}
	if arg == "help" {
		p.help = true
		return nil
	}
	i := slices.IndexFunc(at.subs, func(c *Command) bool { return c.HasName(arg) })
	if i < 0 {
		return p.usage("no command %q%s", arg, nearest(arg, commandNames(at.subs)))
	}
	c := at.subs[i]
	p.levels = append(p.levels, &level{name: c.Name, cmd: c, flags: c.Flags, subs: c.Subcommands})
	return nil
}

// flag takes a flag, with its value where that is an argument of its own.
func (p *parser) flag(args []string) (int, error) {
	name, value, inline := strings.Cut(strings.TrimPrefix(args[0][1:], "-"), "=")
	at, f := p.find(name)
	switch {
	case f == nil && (name == "help" || name == "h"):
		p.help = true
		return 1, nil
	case f == nil:
		return 0, p.usage("no flag %s%s", strings.SplitN(args[0], "=", 2)[0], nearest(name, flagNames(p.last().flags)))
	}
	used, canonical := 1, f.Names()[0]
	switch {
	case inline:
	case !takesValue(f):
		value = "true"
	case len(args) < 2:
		return 0, p.usage("%s wants a value", dashed(canonical))
	default:
		value, used = args[1], 2
	}
	at.given = append(at.given, "--"+canonical+"="+value)
	at.set = append(at.set, canonical)
	return used, nil
}

// find looks for a flag in the command reached and then in those above it.
func (p *parser) find(name string) (*level, Flag) {
	for _, at := range slices.Backward(p.levels) {
		for _, f := range at.flags {
			if slices.Contains(f.Names(), name) {
				return at, f
			}
		}
	}
	return nil, nil
}

// complete checks that a command with commands under it was given one of them.
func (p *parser) complete() error {
	if at := p.last(); !p.help && len(at.subs) > 0 {
		return p.usage("name a command: %s", strings.Join(commandNames(at.subs), ", "))
	}
	return nil
}

// usage makes a usage error about the command reached: what is wrong and which help to read.
func (p *parser) usage(format string, args ...any) error {
	path := p.path()
	return usageAt(path, format, args...)
}

func usageAt(path []string, format string, args ...any) error {
	where := ""
	if len(path) > 1 {
		where = strings.Join(path[1:], " ") + ": "
	}
	return Usagef("%s%s; see '%s --help'", where, fmt.Sprintf(format, args...), strings.Join(path, " "))
}

func (p *parser) path() []string {
	path := make([]string, len(p.levels))
	for i, at := range p.levels {
		path[i] = at.name
	}
	return path
}

func (p *parser) line() *typed {
	l := &typed{Path: p.path(), Names: p.names, Help: p.help, flags: p.last().set, cmd: p.last().cmd}
	for _, at := range p.levels {
		l.Args = append(append(l.Args, at.name), at.given...)
	}
	l.Args = append(append(l.Args, "--"), p.names...)
	return l
}

// missing names the required flags of the command that were given neither on the line nor in the environment.
func (l *typed) missing() (names []string) {
	if l.cmd == nil {
		return nil
	}
	for _, f := range l.cmd.Flags {
		required, ok := f.(urfave.RequiredFlag)
		if !ok || !required.IsRequired() || slices.Contains(l.flags, f.Names()[0]) || inEnvironment(f) {
			continue
		}
		names = append(names, dashed(f.Names()[0]))
	}
	return names
}

func inEnvironment(f Flag) bool {
	d, ok := f.(urfave.DocGenerationFlag)
	return ok && slices.ContainsFunc(d.GetEnvVars(), func(name string) bool { _, set := os.LookupEnv(name); return set })
}

func takesValue(f Flag) bool {
	d, ok := f.(urfave.DocGenerationFlag)
	return ok && d.TakesValue()
}

func dashed(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}

func commandNames(commands []*Command) (names []string) {
	for _, c := range commands {
		if !c.Hidden {
			names = append(names, c.Name)
		}
	}
	return names
}

func flagNames(flags []Flag) (names []string) {
	for _, f := range flags {
		names = append(names, f.Names()...)
	}
	return names
}
