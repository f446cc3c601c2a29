package main

import (
	"errors"
	"testing"

	"ssmnet/cmd/e2e/relay"
)

// TestUsage: what is typed wrong is refused.
func TestUsage(t *testing.T) {
	for _, wrong := range [][]string{
		nil, {"stop"}, {"set", "--control", "s", "--loss", "30"}, {"set", "--control", "s", "--only", "sctp"},
		{"set", "--loss", "0.3"}, {"run", "--control", "s"}, {"show", "--control", "s", "more"},
	} {
		if err := impair(t.Context(), wrong); !errors.Is(err, errUsage) && !errors.Is(err, relay.ErrSettings) {
			t.Errorf("%q: %v", wrong, err)
		}
	}
}
