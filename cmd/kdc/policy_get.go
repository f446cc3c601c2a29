package main

import (
	"context"
	"fmt"
	"io"

	"ssmnet/cmd/internal/cli"
	"ssmnet/kdc"
	"ssmnet/kdc/admin"
)

func policyGetCommand() *cli.Command {
	return &cli.Command{
		Name:        "get",
		Usage:       "print the policy document in force, as it was applied",
		Description: cli.Describe("", "kdc policy get", "kdc policy get --revision 7 > policy.hujson"),
		Flags: []cli.Flag{
			&cli.Uint64Flag{Name: "revision", Usage: "that of revision `N`"},
			cli.OutputFlag(),
		},
		Before: cli.NoArgs,
		Action: func(c *cli.Context) error {
			p, err := ask(c, func(ctx context.Context, k *admin.Client) (kdc.PolicyRevision, error) {
				return k.Policy(ctx, c.Uint64("revision"))
			})
			if err != nil {
				return err
			}
			if cli.WantsJSON(c) {
				return cli.JSON(c.App.Writer, "ssmnet.policy-revision/v1", p)
			}
			if p.Revision == 0 {
				fmt.Fprintln(c.App.ErrWriter, "no policy has been applied: all is denied")
			}
			_, err = io.WriteString(c.App.Writer, p.Text)
			return err
		},
	}
}
