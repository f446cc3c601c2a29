package udp

import (
	"os"
	"testing"

	"ssmnet/cmd/e2e/space"
)

func TestMain(m *testing.M) { os.Exit(space.Tests{M: m}.Run()) }
