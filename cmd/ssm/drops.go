package main

import (
	"maps"
	"slices"

	"ssmnet/cmd/internal/cli"
	"ssmnet/tunssm"
)

// dropMeaning says of each counter of drops what it counts, in the words of whoever has to find out why. The names are
// for programs.
var dropMeaning = map[string]string{
	"malformed":         "sent by this host: not an IP packet",
	"multicast":         "sent by this host: multicast, broadcast or link-local, which are not carried",
	"hold_full":         "sent by this host: too much waited for its session",
	"denied":            "sent by this host: policy permits it not; answered",
	"unreachable":       "sent by this host: no session could be had; answered",
	"too_big":           "sent by this host: longer than the way to the peer carries; answered with the size that fits",
	"loop":              "sent by this host: a frame of its own that a route leads back into the interface",
	"send_failed":       "sent by this host: the network outside did not take it",
	"seal_failed":       "sent by this host: the session's key was gone or used up",
	"link_local":        "from outside: from an address that is good on one link only",
	"not_a_frame":       "from outside: not a frame",
	"unknown_spi":       "from outside: for a session that is not, or is no more",
	"not_opened":        "from outside: forged, corrupted or under another key",
	"replayed":          "from outside: had been received before, or was late",
	"inner_malformed":   "from a peer: not an IP packet",
	"inner_source":      "from a peer: its source is not that peer's",
	"inner_destination": "from a peer: its destination is not this host's",
	"selector":          "from a peer: policy permits it not",
	"probe_rate":        "from a peer: more echoes than are answered",
	"tun_write":         "from a peer: the interface did not take it",
	"read_failed":       "by the kernel: the interface or the socket could not hand it over",
}

func dropTable(st tunssm.Status) *cli.Table {
	t := cli.NewTable("DROPPED", "PACKETS", "MEANING")
	for _, reason := range slices.Sorted(maps.Keys(st.Drops)) {
		t.Row(reason, st.Drops[reason], dropMeaning[reason])
	}
	return t
}
