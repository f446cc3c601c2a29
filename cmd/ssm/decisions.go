package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"

	"github.com/pelletier/go-toml/v2"

	"ssmnet/cmd/internal/cli"
	"ssmnet/packet/secret"
	"ssmnet/tunssm/host"
)

const maxDecisions = 4096

// decisionsFile is DIR/routes.toml: a decision for each prefix.
type decisionsFile struct {
	Accepted []string `toml:"accepted,multiline"`
	Declined []string `toml:"declined,multiline"`
	Forced   []string `toml:"forced,multiline"`
}

const decisionsHead = "# What 'ssm route add' and 'ssm route del' have decided. A route that is not named here follows --accept-routes.\n"

// loadDecisions reads DIR/routes.toml. Where there is none, nothing is decided.
func loadDecisions(path string) (host.Decisions, error) {
	file, err := readTOML(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return host.Decisions{}, nil
	case err != nil:
		return nil, cli.Failedf("cannot read what is decided of routes: %w", err)
	}
	return parseDecisions(file)
}

func parseDecisions(file tomlFile) (host.Decisions, error) {
	var lists decisionsFile
	if err := file.decode(&lists); err != nil {
		return nil, err
	}
	all := host.Decisions{}
	for _, list := range []struct {
		decision host.Decision
		prefixes []string
	}{{host.Accepted, lists.Accepted}, {host.Declined, lists.Declined}, {host.Forced, lists.Forced}} {
		for i, s := range list.prefixes {
			prefix, err := parsePrefix(s)
			switch {
			case err != nil:
			case all[prefix] != "":
				err = fmt.Errorf("%s is named twice", prefix)
			case len(all) == maxDecisions:
				err = fmt.Errorf("more than %d routes", maxDecisions)
			}
			if err != nil {
				return nil, file.wrong(string(list.decision), i, err)
			}
			all[prefix] = list.decision
		}
	}
	return all, nil
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
