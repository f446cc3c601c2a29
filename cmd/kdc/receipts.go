package main

import (
	"ssmnet/cmd/internal/cli"
	"ssmnet/kdc"
)

// printReceipts tells which sides have confirmed that their sessions are gone. done is the line above the table.
func printReceipts(c *cli.Context, done string, receipts []kdc.Receipt) error {
	if cli.WantsJSON(c) {
		return cli.JSON(c.App.Writer, "ssmnet.receipts/v1", struct {
			Receipts []kdc.Receipt `json:"receipts"`
		}{receipts})
	}
	if err := cli.PrintLine(c, "%s", done); err != nil || len(receipts) == 0 {
		return err
	}
	t := cli.NewTable("SESSION", "PEER", "RECEIPT", "AT")
	for _, r := range receipts {
		t.Row(r.Session, r.Peer, r.State, stamp(r.At))
	}
	return t.Write(c.App.Writer)
}

// pending counts the receipts that are still out.
func pending(receipts []kdc.Receipt) (n int) {
	for _, r := range receipts {
		if r.State == kdc.ReceiptPending {
			n++
		}
	}
	return n
}

// sessionsIn counts the sessions that receipts are about: each has one for either side.
func sessionsIn(receipts []kdc.Receipt) int {
	seen := map[string]bool{}
	for _, r := range receipts {
		seen[r.Session.String()] = true
	}
	return len(seen)
}
