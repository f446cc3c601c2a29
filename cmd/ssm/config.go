package main

import (
	"fmt"
	"strconv"
	"strings"

	"ssmnet/cmd/internal/cli"
)

func configCommand() *cli.Command {
	return &cli.Command{
		Name:   "config",
		Hidden: true, // it is for scripts/install.sh
		Usage:  "print a configuration with every setting in it, commented out, at its default",
		Description: cli.Describe("DIR/"+configName+" is read by 'up' and 'run'; flags go above it.",
			"ssm config >/var/lib/ssmnet/ssm/"+configName),
		Before: cli.NoArgs,
		Action: func(c *cli.Context) error { return cli.PrintLine(c, "%s", sampleConfig()) },
	}
}

// sampleConfig is made of the flags, which have the settings' names, meanings and defaults.
func sampleConfig() string {
	var b strings.Builder
	b.WriteString("# The settings of 'ssm up' and 'ssm run', for DIR/" + configName + " (DIR is " + defaultDir + "); flags go above\n" +
		"# them. Each is shown at its default. The SSM reads the file when it starts, and log_level again on SIGHUP.\n")
	for _, f := range settingsFlags() {
		var usage, value string
		switch f := f.(type) {
		case *cli.StringFlag:
			usage, value = f.Usage, strconv.Quote(f.Value)
		case *cli.IntFlag:
			usage, value = f.Usage, strconv.Itoa(f.Value)
		case *cli.BoolFlag:
			usage, value = f.Usage, strconv.FormatBool(f.Value)
		}
		if name := f.Names()[0]; name != "config" {
			fmt.Fprintf(&b, "\n# %s\n#%s = %s\n", strings.ReplaceAll(usage, "`", ""), strings.ReplaceAll(name, "-", "_"), value)
		}
	}
	return strings.TrimSuffix(b.String(), "\n")
}
