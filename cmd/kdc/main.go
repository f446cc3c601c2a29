// Kdc is the key distribution center, and the commands of its operator.
package main

import (
	"os"

	"ssmnet/cmd/internal/cli"
)

func main() { os.Exit(cli.Run(program(), os.Args, os.Stdin, os.Stdout, os.Stderr)) }
