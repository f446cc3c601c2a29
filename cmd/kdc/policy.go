package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"ssmnet/cmd/internal/cli"
	"ssmnet/kdc"
	"ssmnet/policy"
)

func policyCommand() *cli.Command {
	return &cli.Command{
		Name:        "policy",
		Usage:       "who may talk to whom",
		Description: cli.Describe("", "kdc policy check policy.hujson", "kdc policy apply policy.hujson"),
		Subcommands: []*cli.Command{policyCheckCommand(), policyApplyCommand(), policyGetCommand()},
	}
}

// document is a policy as the user named it.
type document struct {
	name string // as messages name it
	text []byte
}

// readDocument reads the one FILE after a policy command; "-" is standard input. No more is read than
// a policy may have.
func readDocument(c *cli.Context) (document, error) {
	args, err := cli.Args(c, 1, 1)
	if err != nil {
		return document{}, err
	}
	d, from := document{name: args[0]}, c.App.Reader
	if d.name == "-" {
		d.name = "standard input"
	} else {
		f, err := os.Open(d.name)
		if err != nil {
			return d, cli.Failedf("cannot read the policy: %w", err)
		}
		defer f.Close()
		from = f
	}
	if d.text, err = io.ReadAll(io.LimitReader(from, kdc.MaxPolicy+1)); err != nil {
		return d, cli.Failedf("cannot read the policy: %w", err)
	}
	if len(d.text) > kdc.MaxPolicy {
		return d, cli.Failedf("%s is longer than a policy may be: %d KiB", d.name, kdc.MaxPolicy>>10)
	}
	return d, nil
}

// explain tells the faults of the document, each on a line "FILE:LINE:COLUMN: what is wrong" as compilers do. Any other
// error comes back as it is.
func (d document) explain(c *cli.Context, err error) error {
	var faults policy.Errors
	if !errors.As(err, &faults) {
		return err
	}
	for _, f := range faults {
		fmt.Fprintf(c.App.ErrWriter, "%s:%d:%d: %s\n", d.name, f.Line, f.Column, f.Message)
	}
	return cli.Quiet(cli.Failed)
}

// warn tells remarks about a correct document on standard error, in the same form.
func (d document) warn(c *cli.Context, warnings []string) {
	for _, w := range warnings {
		fmt.Fprintf(c.App.ErrWriter, "%s (warning)\n", d.place(w))
	}
}

// place puts the document's name where package policy, which knows none, says "policy".
func (d document) place(message string) string {
	if rest, ok := strings.CutPrefix(message, "policy:"); ok {
		return d.name + ":" + rest
	}
	return message
}
