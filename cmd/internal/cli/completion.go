package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

func completionCommand(program string) *Command {
	return &Command{
		Name:      "completion",
		Usage:     "print a completion script for a shell",
		ArgsUsage: "bash|zsh|fish",
		Description: Describe("Load it in the running shell, or put it where the shell looks for completions.",
			"source <("+program+" completion bash)",
			program+" completion fish | source"),
		Action: func(c *Context) error {
			args, err := Args(c, 1, 1)
			if err != nil {
				return err
			}
			write, known := shells[args[0]]
			if !known {
				return BadUsage(c, "no completion for %q: bash, zsh or fish", args[0])
			}
			_, err = io.WriteString(c.App.Writer, write(c.App.Name, places(c.App)))
			return err
		},
	}
}

var shells = map[string]func(program string, places []place) string{
	"bash": bashCompletion, "zsh": zshCompletion, "fish": fishCompletion,
}

// place is what can be typed after one command. All scripts are the same small machine over a list of places: walk the
// words typed so far (a command moves to its place, a flag with a value skips the next word), then offer what the
// place holds.
type place struct {
	path     string     // "kdc peer add"
	commands []offer    // commands under it
	flags    []flagWord // its own and those of the commands above it
	choices  []string   // what its first name may be, where ArgsUsage is a list such as bash|zsh|fish
}

// offer is a word and what it means.
type offer struct{ word, meaning string }

// flagWord is a flag as it is typed.
type flagWord struct {
	names   []string // --output, -o
	meaning string
	value   bool
	choices []string // its values, where the usage quotes a list such as table|json
}

func places(app *App) []place {
	help := flagWord{names: []string{"--help"}, meaning: "help on this command"}
	flags := append(flagWords(app.Flags), help)
	all := []place{{path: app.Name, commands: offers(app.Commands), flags: flags}}
	byPath := map[string][]flagWord{app.Name: flags}
	Walk(app, func(path []string, c *Command) {
		name := strings.Join(path, " ")
		flags := append(flagWords(c.Flags), byPath[strings.Join(path[:len(path)-1], " ")]...)
		byPath[name] = flags
		all = append(all, place{name, offers(c.Subcommands), flags, choices(c.ArgsUsage)})
	})
	return all
}

func offers(commands []*Command) (list []offer) {
	for _, c := range commands {
		if !c.Hidden {
			list = append(list, offer{c.Name, c.Usage})
		}
	}
	return list
}

func flagWords(flags []Flag) (list []flagWord) {
	for _, f := range flags {
		w := flagWord{value: takesValue(f)}
		for _, n := range f.Names() {
			w.names = append(w.names, dashed(n))
		}
		usage, value := describe(f)
		w.meaning, w.choices = usage, choices(value)
		list = append(list, w)
	}
	return list
}

// choices splits a|b|c; anything else is no list.
func choices(text string) []string {
	if !strings.Contains(text, "|") || strings.ContainsAny(text, " []/.") {
		return nil
	}
	return strings.Split(text, "|")
}

// quote is s as one word of any of the three shells.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// words joins what is offered for a place: commands, or the choices of its first name.
func (p place) words() []offer {
	list := slices.Clone(p.commands)
	for _, c := range p.choices {
		list = append(list, offer{c, ""})
	}
	return list
}

func (p place) flagOffers() (list []offer) {
	for _, f := range p.flags {
		for _, n := range f.names {
			list = append(list, offer{n, f.meaning})
		}
	}
	return list
}

// patterns gives for each place and flag "place:flag" of those that take a value, for the machine's case labels.
func (p place) patterns(f flagWord) []string {
	var list []string
	for _, n := range f.names {
		list = append(list, quote(p.path+":"+n))
	}
	return list
}

// transitions writes the cases of the machine: move makes the body for a command, skip the body for a flag's value.
func transitions(b *strings.Builder, all []place, separator, format, move, skip string) {
	for _, p := range all {
		for _, c := range p.commands {
			fmt.Fprintf(b, format, quote(p.path+":"+c.word), fmt.Sprintf(move, quote(p.path+" "+c.word)))
		}
		for _, f := range p.flags {
			if f.value {
				fmt.Fprintf(b, format, strings.Join(p.patterns(f), separator), skip)
			}
		}
	}
}
