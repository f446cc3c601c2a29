//go:build !race

package e2e

const meshPeers = 50
