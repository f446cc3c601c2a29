// Package tunssm is the security service module: it owns a TUN interface and seals what the host sends to each peer
// under that peer's session key, which it acquires from the KDC when the first packet asks for it.
//
// # A packet's way
//
// Each queue of the interface has one goroutine, in a thread of its own, that carries what there is both ways to its end and
// then waits (queue.go). Each way reads from top to bottom in one file, a batch at a time:
//
//	outbound.go   readTUN, classify, lookup, (hold), fit, seal, flush
//	inbound.go    receive, parseHeaders, session, open (and window), roam, confirm, checkInner, writeTUN
//
// A flow stays in one queue, and so in order (lanes.go).
//
// A packet that finds no session goes to the acquirer, one goroutine that owns everything that changes: holds, requests,
// denials, sessions, timers, the connections to the KDCs. acquire.go holds the four steps, step1Hold, step2Request,
// step3Install and step4Release; a session that the other side asked for begins at step 3. After each change it
// publishes an immutable table, inner prefix to peer and SPI to session, which the loops only read.
//
// What a local program, a peer or a KDC can make the acquirer do, keep or log is bounded (hold.go, turns.go, denials.go,
// loglimit.go), so that none of them takes it from the others.
//
// # Which session
//
// A peer may have several sessions at once: both sides asked, or one replaces another. A session is confirmed at the
// responder by the requester's first frame, and at the requester by the probe that answers it. Both send on the
// confirmed session with the greatest (order, session id), a requester that has none on its provisional one; the
// responder sends nothing on an unconfirmed one. Those superseded stay open to receive for 30 s.
//
// # Permanent keys
//
// While the permanent key is rotated (rotate.go) there are two, saved before the new one is used, and connections under
// both. Sessions have keys of their own and do not notice.
//
// # Endpoints
//
// The peer, not the session, owns the endpoint: the underlay address that its newest opened frame came from. Until there
// is one, held packets and probes go to every candidate that the KDC named and later data to the first. An SSM whose own
// addresses change sends echoes, to every candidate, until each peer has answered. A change that a router in between makes
// it cannot see: its next frame tells the peer, at the latest the keepalive that it sends when the peer, hearing nothing,
// acquires anew. No endpoint is a link-local address, and none lies inside the tunnel (loop.go).
//
// # Path MTU
//
// Frames go unfragmented. Each peer has a limit, the longest inner packet that its path takes in one frame, lowered by
// what the kernel knows of the path and found by echoes where no router tells (path.go, search.go). It is never below
// 1280 bytes, the interface's least: to a peer whose path takes not even that, frames go in IP fragments.
//
// # Traces
//
// A trace (trace.go) follows a flow without sending anything: trace_steps.go has the steps in the order of a packet's way.
// What the KDC would decide it asks by a Lookup (lookup.go), which makes no session.
package tunssm
