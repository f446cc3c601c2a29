package main

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"ssmnet/cmd/internal/cli"
)

// decodeStrict reads TOML that has nothing in it but what is known, and says where it is wrong.
func decodeStrict(path string, r io.Reader, into any) error {
	err := toml.NewDecoder(r).DisallowUnknownFields().Decode(into)
	var at *toml.DecodeError
	var strict *toml.StrictMissingError
	switch {
	case errors.As(err, &strict) && len(strict.Errors) > 0:
		line, column := strict.Errors[0].Position()
		return cli.Failedf("%s:%d:%d: no such setting %q", path, line, column, strings.Join(strict.Errors[0].Key(), "."))
	case errors.As(err, &at):
		line, column := at.Position()
		if is := wrongType.FindStringSubmatch(err.Error()); is != nil {
			err = fmt.Errorf("%s is of type %s, want %s", strings.Join(at.Key(), "."), is[1], typeNames[is[2]])
		}
		return cli.Failedf("%s:%d:%d: %w", path, line, column, err)
	case err != nil:
		return cli.Failedf("%s: %w", path, err)
	}
	return nil
}

// wrongType reads what the decoder says of a value of a wrong type; typeNames are the types in the words of whoever reads
// the file.
var (
	wrongType = regexp.MustCompile(`cannot decode TOML (\w+) into struct field \S+ of type (\S+)`)
	typeNames = map[string]string{
		"[]string": "a list of strings", "string": "a string", "int": "an integer", "bool": "true or false",
	}
)
