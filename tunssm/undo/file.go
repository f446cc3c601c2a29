package undo

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// place is the first line: where and when the changes hold.
type place struct {
	Schema    string `json:"schema"`
	Boot      string `json:"boot"`
	Namespace string `json:"namespace"`
}

func here() (place, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return place{}, fmt.Errorf("undo: %w", err)
	}
	namespace, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		return place{}, fmt.Errorf("undo: %w", err)
	}
	return place{schema, strings.TrimSpace(string(boot)), namespace}, nil
}

func writeLine(b *bytes.Buffer, v any) {
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err) // of strings and numbers
	}
}

// parse reads the file. A malformed line is told by its number.
func parse(text []byte) (at place, changes []Change, err error) {
	lines := bytes.Split(text, []byte("\n"))
	for i, line := range lines[:len(lines)-1] { // the last is empty, or not whole
		if i == 0 {
			if err = decodeLine(line, &at); err == nil && at.Schema != schema {
				err = fmt.Errorf("schema %.40q, want %q", at.Schema, schema)
			}
		} else {
			var c Change
			if err = decodeLine(line, &c); err == nil {
				err = c.check()
			}
			changes = append(changes, c)
		}
		if err != nil {
			return place{}, nil, fmt.Errorf("%d: %w", i+1, err)
		}
	}
	return at, changes, nil
}

func decodeLine(line []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("malformed: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("malformed: more than one value")
	}
	return nil
}
