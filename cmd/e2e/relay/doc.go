// Package relay joins two Ethernet interfaces as a bad network would: with loss, delay, jitter, reordering,
// duplication, corruption, a limited rate and blackouts, for kernels without netem.
//
//	  h1                     between                       h2
//	eth0 ====== left   forward  ---->   right ====== eth0
//	                   backward <----
//
// Each direction is a Line with Settings of its own, which may change while it runs. A packet that the settings
// concern (Settings.Only; all others pass untouched, at once) goes through
//
//	blackout, loss -> duplication -> rate and its queue -> delay and jitter -> reordering; corruption
//
// where each copy of a duplicated packet goes its own way from the queue on.
//
// Repeatable: what happens to the n-th packet of a direction depends on the seed, n and the settings at that moment;
// when it arrives, and whether the queue has room, also on when it came. The dice for a packet are thrown whether they
// are needed or not, so changing one setting does not change the fortunes of another.
//
// Order: delay, jitter and rate keep it, and so does a change of settings: a packet leaves after those that came before
// it. Jitter therefore is a delay that wanders, not one drawn for each packet. Reordering alone breaks the order, by
// holding a packet back so that later ones overtake.
//
// Packets: a host with segmentation offload hands over up to 64 KiB as one frame, and the relay sees it as such
// (PACKET_VNET_HDR). Where the settings do nothing it passes as it is, with its partial checksum, at the speed of a
// bridge. Else it is first cut into the packets that a wire would carry, and each meets its own fate.
//
// Corruption changes between one and eight bits of one byte behind the transport header (the IP header where there is
// none). The receiver's kernel notices and drops the packet, unless Mend makes the TCP or UDP checksum right again:
// then it reaches the program that reads the socket, which is what tests authenticated encryption.
//
// VLAN tags are not kept. Interfaces belong to a namespace whose own stack is silent: no addresses, IPv6 off.
package relay
