package undo

import (
	"os"
	"testing"

	"ssmnet/cmd/e2e/space"
)

func TestMain(m *testing.M) {
	space.BeRoot()
	os.Exit(m.Run())
}
