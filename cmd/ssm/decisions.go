package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"ssmnet/cmd/internal/cli"
	"ssmnet/packet/secret"
	"ssmnet/tunssm/host"
)

const (
	maxDecisions     = 4096
	maxDecisionsFile = 1 << 20 // bytes
)

// decisionsFile is DIR/routes.toml: a decision for each prefix.
type decisionsFile struct {
	Accepted []string `toml:"accepted,multiline"`
	Declined []string `toml:"declined,multiline"`
	Forced   []string `toml:"forced,multiline"`
}

const decisionsHead = "# What 'ssm route add' and 'ssm route del' have decided. A route that is not named here follows --accept-routes.\n"

// loadDecisions reads DIR/routes.toml. Where there is none, nothing is decided.
func loadDecisions(path string) (host.Decisions, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return host.Decisions{}, nil
	}
	if err != nil {
		return nil, cli.Failedf("cannot read what is decided of routes: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxDecisionsFile+1))
	if err != nil {
		return nil, cli.Failedf("cannot read what is decided of routes: %w", err)
	}
	if len(text) > maxDecisionsFile {
		return nil, cli.Failedf("%s is longer than %d bytes: is it what 'ssm route' has written?", path, maxDecisionsFile)
	}
	return parseDecisions(path, text)
}

func parseDecisions(path string, text []byte) (host.Decisions, error) {
	var file decisionsFile
	if err := decodeStrict(path, bytes.NewReader(text), &file); err != nil {
		return nil, err
	}
	all := host.Decisions{}
	for _, of := range []struct {
		decision host.Decision
		prefixes []string
	}{{host.Accepted, file.Accepted}, {host.Declined, file.Declined}, {host.Forced, file.Forced}} {
		for _, s := range of.prefixes {
			prefix, err := parsePrefix(s)
			if err == nil && all[prefix] != "" {
				err = fmt.Errorf("%s is named twice", prefix)
			}
			if err == nil && len(all) == maxDecisions {
				err = fmt.Errorf("more than %d routes", maxDecisions)
			}
			if err != nil {
				line, column := lastIn(text, s)
				return nil, cli.Failedf("%s:%d:%d: %w", path, line, column, err)
			}
			all[prefix] = of.decision
		}
	}
	return all, nil
}

// lastIn finds the last place of the string s in the text, before the comment of its line.
func lastIn(text []byte, s string) (line, column int) {
	line, column = 1, 1
	for i, l := range strings.Split(string(text), "\n") {
		before, _, _ := strings.Cut(l, "#")
		for _, quote := range []string{`"`, "'"} {
			if at := strings.LastIndex(before, quote+s+quote); at >= 0 {
				line, column = i+1, at+1+len(quote)
			}
		}
	}
	return line, column
}

// parsePrefix reads a prefix as the KDC offers them: nothing set beyond its length, or it could never be one.
func parsePrefix(s string) (netip.Prefix, error) {
	prefix, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return prefix, fmt.Errorf("%q: want a prefix, such as 10.20.0.0/16", s)
	case prefix != prefix.Masked():
		return prefix, fmt.Errorf("%s has bits set beyond its length: do you mean %s?", prefix, prefix.Masked())
	}
	return prefix, nil
}

// saveDecisions writes DIR/routes.toml, or leaves the one that is there as it was.
func saveDecisions(path string, d host.Decisions) error {
	if len(d) > maxDecisions {
		return cli.Failedf("more than %d routes are decided of: remove from %s those that no KDC offers", maxDecisions, path)
	}
	of := func(is host.Decision) (list []string) {
		for _, prefix := range slices.SortedFunc(maps.Keys(d), netip.Prefix.Compare) {
			if d[prefix] == is {
				list = append(list, prefix.String())
			}
		}
		return list
	}
	text, err := toml.Marshal(decisionsFile{of(host.Accepted), of(host.Declined), of(host.Forced)})
	if err != nil {
		return err
	}
	return secret.WriteFile(path, append([]byte(decisionsHead), text...))
}

// decide keeps one decision in the state directory.
func decide(dir string, prefix netip.Prefix, to host.Decision) error {
	path := filepath.Join(dir, decisionsName)
	err := locked(dir, func() error {
		all, err := loadDecisions(path)
		if err != nil {
			return err
		}
		if all[prefix] == to {
			return nil
		}
		all[prefix] = to
		return saveDecisions(path, all)
	})
	if errors.Is(err, fs.ErrNotExist) {
		err = cli.Failedf("this host is not enrolled: there is no %s", dir)
	}
	return err
}
