//go:build race

package e2e

// meshPeers is smaller where the race detector makes a key exchange cost ten times as much.
const meshPeers = 20
