package main

import (
	"context"

	"ssmnet/cmd/internal/cli"
	"ssmnet/kdc"
	"ssmnet/kdc/admin"
)

func policyCheckCommand() *cli.Command {
	return &cli.Command{
		Name:      "check",
		Usage:     "check a policy document against the peers there are",
		ArgsUsage: "FILE",
		Description: cli.Describe("Changes nothing. Faults are told as FILE:LINE:COLUMN; FILE '-' is standard input.",
			"kdc policy check policy.hujson"),
		Flags:  []cli.Flag{cli.OutputFlag()},
		Action: policyCheck,
	}
}

func policyCheck(c *cli.Context) error {
	d, err := readDocument(c)
	if err != nil {
		return err
	}
	report, err := ask(c, func(ctx context.Context, k *admin.Client) (kdc.PolicyReport, error) {
		return k.CheckPolicy(ctx, d.text)
	})
	if err != nil {
		return d.explain(c, err)
	}
	if cli.WantsJSON(c) {
		return cli.JSON(c.App.Writer, "ssmnet.policy-check/v1", struct {
			Grants   int      `json:"grants"`
			Warnings []string `json:"warnings"`
		}{report.Grants, report.Warnings})
	}
	d.warn(c, report.Warnings)
	return cli.PrintLine(c, "%s is correct: %s", d.name, count(report.Grants, "grant"))
}
