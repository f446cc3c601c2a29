// Package netns tests kdc and ssm as they are shipped: the release binaries as processes of their own, in network
// namespaces with real TUN interfaces, driven through their command lines alone.
//
//	   kdc                  h1                   h2               ...
//	kdc serve            ssm (tun0)           ssm (tun0)               a daemon each
//	10.77.0.1            10.77.0.11           10.77.0.12               underlay
//	fd77::1              fd77::11             fd77::12
//	                     100.80.0.1           100.80.0.2               overlay
//	                     fdxx:...::1          fdxx:...::2
//
// scripts/netns.sh makes and draws the network. A test makes one of its own, which takes a fifth of a second, so that
// nothing that one test leaves can help or hurt another; newNet gives the bare network, newOverlay one where all is up.
// The peers bear the names of their hosts. Sockets of the tests themselves are made inside the namespaces (Host.dial,
// Host.listen), so applications are as real as the programs between them.
//
// A limit on how long something may take is not what it takes, which a test logs: a loaded machine takes longer. It lies
// below the next slower way for the same thing to happen, so that a test tells which of them it saw.
//
// Everything a test starts ends with it, also when it fails: processes by their pid, then what is still in the
// namespaces, then the namespaces. What a killed run has left is removed by the next.
package netns
