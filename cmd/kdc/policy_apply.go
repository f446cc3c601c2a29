package main

import (
	"context"
	"fmt"

	"ssmnet/cmd/internal/cli"
	"ssmnet/kdc"
	"ssmnet/kdc/admin"
)

func policyApplyCommand() *cli.Command {
	return &cli.Command{
		Name:      "apply",
		Usage:     "put a policy document in force",
		ArgsUsage: "FILE",
		Description: cli.Describe(
			"Sessions that it no longer permits are revoked; those of which it permits less are narrowed, which cuts the\n"+
				"flows that no longer fit. With --if-revision it changes nothing unless that revision is in force (exit 6),\n"+
				"so that nobody's change is lost.",
			"kdc policy apply policy.hujson --note OPS-41",
			"kdc policy apply policy.hujson --if-revision 7"),
		Flags: []cli.Flag{
			&cli.Uint64Flag{Name: "if-revision", Usage: "only if revision `N` is in force; 0: none"},
			&cli.StringFlag{Name: "note", Usage: "`TEXT` kept with the revision"},
			cli.OutputFlag(),
		},
		Action: policyApply,
	}
}

func policyApply(c *cli.Context) error {
	d, err := readDocument(c)
	if err != nil {
		return err
	}
	var ifRevision *uint64
	if c.IsSet("if-revision") {
		n := c.Uint64("if-revision")
		ifRevision = &n
	}
	report, err := ask(c, func(ctx context.Context, k *admin.Client) (kdc.PolicyReport, error) {
		return k.ApplyPolicy(ctx, d.text, ifRevision, c.String("note"))
	})
	if err != nil {
		return d.explain(c, err)
	}
	if cli.WantsJSON(c) {
		return cli.JSON(c.App.Writer, "ssmnet.policy-apply/v1", report)
	}
	d.warn(c, report.Warnings)
	return printReceipts(c, fmt.Sprintf("revision %d is in force: %s, %s revoked, %d narrowed", report.Revision,
		count(report.Grants, "grant"), count(sessionsIn(report.Revoked), "session"), sessionsIn(report.Narrowed)),
		append(report.Revoked, report.Narrowed...))
}
