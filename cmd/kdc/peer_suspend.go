package main

import (
	"ssmnet/cmd/internal/cli"
	"ssmnet/kdc/admin"
)

func peerSuspendCommand() *cli.Command {
	return peerCutCommand("suspend", "suspended", "cut a peer off until it is resumed", (*admin.Client).SuspendPeer)
}
