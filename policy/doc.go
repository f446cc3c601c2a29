// Package policy reads the policy document, compiles it against the peers, and decides which flows they may start.
//
// # Document
//
// A document is HuJSON (JSON with comments and trailing commas), at most 1 MiB, read strictly: a field that is unknown,
// repeated or of the wrong type is an error, and each error has its line and column.
//
//	{
//	  "schema": "ssmnet.policy/v1",                   // required
//	  "groups":  { "NAME": [PEER, ...] },             // names of peers
//	  "nets":    { "NAME": PREFIX },
//	  "session": { "rekey": D, "idle": D, "grace": D }, // Go durations; 10m, 3m and 15m where not given
//	  "grants":  [ { "id": ID, "src": [ENDS], "dst": [ENDS], "allow": [ALLOW],
//	                 "note": TEXT, "until": RFC3339, "disabled": BOOL } ],
//	  "tests":   [ { "src": ENDS, "accept": ["ENDS:ALLOW"], "deny": ["ENDS:ALLOW"] } ],
//	}
//
//	PEER    [a-z0-9][a-z0-9-]{0,62}; tags, groups and nets are named by the same rule
//	ID      [A-Za-z0-9][A-Za-z0-9._-]{0,62}, unique
//	PREFIX  an IPv4 or IPv6 prefix without host bits, or an address for the prefix of it alone
//	ENDS    PEER | tag:NAME | group:NAME | net:NAME | PREFIX | *
//	ALLOW   tcp/PORT | tcp/LO-HI | tcp/* | udp/... | icmp | proto/N | *
//
// PEER, tag: and group: mean overlay addresses only. A subnet is named by net: or PREFIX, which mean whatever of them
// the peers own: subnets and overlay addresses. * is everything, subnets included. icmp is ICMP in IPv4 and ICMPv6 in
// IPv6. What is undefined in the document (group:, net:) is an error; what no peer has today (PEER, tag:) is a Warning,
// because peers come and go.
//
// A document has at most 4096 grants, whose lists have at most 1024 elements. A lifetime is at least 1s; rekey
// and idle are at most 24h, grace 168h. Ports are 1 to 65535; proto/0, which packet.Selector takes for any, is refused.
//
// # Decision
//
// A grant gives the right to start flows from src to dst; nothing else does, and no document means no grant. A grant is
// in force unless it is disabled, and until its until (exclusive). Compile turns a document and the peers into a
// Compiled: for each peer, the set of grants that name it as src and as dst. The grants of a pair are the intersection
// of two such sets, so no table of pairs is ever built; Pair expands them into packet.Selectors when it is asked, each
// end clipped to what its peer owns, and remembers the last ones.
//
// As enforcement keeps no state of flows, a flow is permitted where its mirror image is: the replies of what may be
// started are let through (packet.Selectors.Permits).
package policy
