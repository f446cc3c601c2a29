package undo

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// The name of an address or a route is its prefix, and whatever is not zero of it as key=value.

// describe makes a name; described takes it apart.
func describe(prefix netip.Prefix, numbers map[string]int, texts map[string]string) string {
	name := prefix.String()
	for _, key := range slices.Sorted(maps.Keys(numbers)) {
		if numbers[key] != 0 {
			name += fmt.Sprintf(" %s=%d", key, numbers[key])
		}
	}
	for _, key := range slices.Sorted(maps.Keys(texts)) {
		if texts[key] != "" {
			name += fmt.Sprintf(" %s=%s", key, texts[key])
		}
	}
	return name
}

// described is what a name says, with the keys that numbers and texts have.
func described(name string, numbers map[string]*int, texts map[string]*string) (netip.Prefix, error) {
	fields := strings.Fields(name)
	if len(fields) == 0 {
		return netip.Prefix{}, errors.New("no name")
	}
	prefix, err := netip.ParsePrefix(fields[0])
	if err != nil {
		return prefix, err
	}
	for _, f := range fields[1:] {
		key, value, _ := strings.Cut(f, "=")
		number, text := numbers[key], texts[key]
		switch {
		case number != nil:
			n, err := strconv.ParseUint(value, 10, 32)
			if err != nil {
				return prefix, err
			}
			*number = int(n)
		case text != nil && value != "":
			*text = value
		default:
			return prefix, fmt.Errorf("%.40q is not known of a name", f)
		}
	}
	return prefix, nil
}
