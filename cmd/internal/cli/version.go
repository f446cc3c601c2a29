package cli

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"ssmnet/packet/secret"
)

// Version is the release, set when it is built: -ldflags "-X ssmnet/cmd/internal/cli.Version=v1.2.3".
var Version = ""

// build is what the version command tells.
type build struct {
	Version       string `json:"version"`
	Go            string `json:"go"`
	Platform      string `json:"platform"`
	RuntimeSecret bool   `json:"runtimesecret"` // what key derivation leaves in memory is erased
}

func thisBuild() build {
	return build{Release(), runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH, secret.Erases}
}

// Release is Version, or what the Go tool recorded where nobody set it.
func Release() string {
	if Version != "" {
		return Version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "devel"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return "devel-" + s.Value[:min(12, len(s.Value))]
		}
	}
	return "devel"
}

func versionCommand(program string) *Command {
	return &Command{
		Name:        "version",
		Usage:       "print the version, and how the program was built",
		Description: Describe("", program+" version", program+" version -o json"),
		Flags:       []Flag{OutputFlag()},
		Before:      NoArgs,
		Action: func(c *Context) error {
			b := thisBuild()
			if WantsJSON(c) {
				return JSON(c.App.Writer, "ssmnet.version/v1", b)
			}
			erase := "off"
			if b.RuntimeSecret {
				erase = "on"
			}
			_, err := fmt.Fprintf(c.App.Writer, "%s %s %s %s runtimesecret %s\n", program, b.Version, b.Go, b.Platform, erase)
			return err
		},
	}
}
