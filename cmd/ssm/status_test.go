package main

import (
	"maps"
	"slices"
	"testing"

	"ssmnet/tunssm"
)

// TestDropMeanings: each counter is explained, and nothing else.
func TestDropMeanings(t *testing.T) {
	if got, want := slices.Sorted(maps.Keys(dropMeaning)), tunssm.DropNames(); !slices.Equal(got, want) {
		t.Errorf("explained %q,\nwant %q", got, want)
	}
}
