package main

import (
	"ssmnet/cmd/internal/cli"
	"ssmnet/kdc/admin"
)

func peerRemoveCommand() *cli.Command {
	return peerCutCommand("remove", "removed", "forget a peer and its keys", (*admin.Client).RemovePeer)
}
