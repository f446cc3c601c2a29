package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"

	"ssmnet/cmd/internal/cli"
)

// maxTOML bounds what is read of a file, in bytes.
const maxTOML = 1 << 20

// tomlFile is a file of settings. What is wrong with it is told by line and column.
type tomlFile struct {
	path string
	text []byte
}

func readTOML(path string) (tomlFile, error) {
	f, err := os.Open(path)
	if err != nil {
		return tomlFile{}, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxTOML+1))
	if err == nil && len(text) > maxTOML {
		err = fmt.Errorf("%s is longer than %d bytes: is it the right file?", path, maxTOML)
	}
	return tomlFile{path, text}, err
}

// decode takes what is known, and nothing else may be there.
func (f tomlFile) decode(into any) error {
	err := toml.NewDecoder(bytes.NewReader(f.text)).DisallowUnknownFields().Decode(into)
	var at *toml.DecodeError
	var strict *toml.StrictMissingError
	switch {
	case errors.As(err, &strict) && len(strict.Errors) > 0:
		line, column := strict.Errors[0].Position()
		return cli.Failedf("%s:%d:%d: no such setting %q", f.path, line, column, strings.Join(strict.Errors[0].Key(), "."))
	case errors.As(err, &at):
		line, column := at.Position()
		if is := wrongType.FindStringSubmatch(err.Error()); is != nil {
			err = fmt.Errorf("%s is of type %s, want %s", strings.Join(at.Key(), "."), is[1], typeNames[is[2]])
		}
		return cli.Failedf("%s:%d:%d: %w", f.path, line, column, err)
	case err != nil:
		return cli.Failedf("%s: %w", f.path, err)
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

// wrong is what is wrong with the value of a setting, or with the n-th of its list, in a file that was decoded.
func (f tomlFile) wrong(setting string, n int, err error) error {
	line, column := f.place(setting, n)
	return cli.Failedf("%s:%d:%d: %w", f.path, line, column, err)
}

func (f tomlFile) place(setting string, n int) (line, column int) {
	var p unstable.Parser
	p.Reset(f.text)
	for p.NextExpression() {
		e := p.Expression()
		if e.Kind != unstable.KeyValue {
			break
		}
		key := e.Key()
		if key.Next(); string(key.Node().Data) != setting {
			continue
		}
		value := e.Value()
		if value.Kind == unstable.Array {
			list := value.Children()
			for list.Next() && n > 0 {
				n--
			}
			value = list.Node()
		}
		at := p.Shape(value.Raw).Start
		return at.Line, at.Column
	}
	return 1, 1
}
