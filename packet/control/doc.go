// Package control is the protocol between an SSM and the KDC. This page is its specification; the frames that the two
// SSMs then exchange directly are specified in package packet. The model of the exchange, checked by machine, and what
// it proves are in the folder proof.
//
// # The four steps
//
//	A's SSM (requester)           KDC                        B's SSM (responder)
//	1 hold the packet
//	2 KeyRequest(flow, na, pub, spiA) ->
//	                              3 identify, decide, audit
//	                              K = 32 random bytes, session id
//	                              KeyOffer(id, A, B, na, K, pub, spiA, terms) ->
//	                                                         install inbound state
//	                                     <- KeyAccept(id, A, B, enc, spiB, order)
//	<- KeyGrant(id, A, B, na, K, enc, spiB, order, terms)     audit the outcome, forget K
//	4 install, release the held packet
//
// or, where the KDC or the responder says no, a KeyDenial with its reason in place of the KeyGrant. The responder
// installs and accepts before the requester has the key, so the first packet finds its SPI. The KDC waits 1 s
// (AcceptTimeout) for the KeyAccept and then answers offline; the requester waits 2 s (RequestTimeout) for the whole.
//
// # Channel
//
// TCP, by default to port 7600. The client sends a preface of 16 bytes
//
//	magic(32) "SSMN" | version(8) = 1 | zero(24) | key id(64)
//
// and then runs Noise_NNpsk0_25519_AESGCM_SHA256 (the Noise Protocol Framework, revision 34) with the permanent key as
// PSK and the preface as prologue. Both handshake messages have an empty payload, so each is 48 bytes and needs no
// length. The KDC answers an unknown key id, a wrong key and a malformed preface alike: it closes. It learns which
// before it computes any Diffie-Hellman, because psk0 mixes the key in first.
//
// After the handshake each side sends transport messages
//
//	length(16) | Noise transport message of that many bytes, at most 65,535
//
// whose plaintext is one message. The first of the client is Hello or, under a token's key, Enrol; until it has
// verified, within HandshakeTimeout of the connection, the KDC keeps nothing. A side pings after PingInterval and takes
// the connection for dead when nothing has arrived for DeadAfter.
//
// # Messages
//
// A message is the CBOR array (RFC 8949, core deterministic encoding)
//
//	[type, request id, body]
//
// where body is a map with the integer keys given by the struct tags in messages.go. A call carries a request id other
// than zero, chosen by its sender, and its reply repeats it; all else carries zero. Unknown keys in a body are ignored;
// an unknown type is answered with a Refusal that names it and otherwise ignored. Indefinite lengths, tags, duplicate
// keys, nesting over 8 and lists over MaxList are malformed, and end the connection.
//
//	Hello, SessionReport...  ->          on connecting: boot, port, addresses; then every live session, 256 a report
//	                         <- Welcome  name, addresses, overlays, routes, KDCs, as_of
//	KeyRequest               ->          <- KeyGrant | KeyDenial      (above)
//	                         <- KeyOffer      KeyAccept | KeyDenial ->
//	                         <- Revoke        RevokeAck ->            sessions to destroy
//	                         <- Update                                what Welcome said, changed
//	SessionReport            ->                                       sessions opened and closed, coalesced for 200 ms
//	Endpoint                 ->          <- Endpoint                  candidates changed: its own; those of a peer
//	Lookup                   ->          <- LookupReply               name or flow to peer and decision; no session
//	Ping                    <->  Pong                                 either side; a KDC's Pong carries as_of
//	Enrol                    ->          <- EnrolGrant                under a token: the permanent key
//	                         <- Refusal                               not understood, or a displaced boot
//
// # Snapshots
//
// AsOf = (epoch, store revision) says which state of policy and peers a decision was made under. Welcome, Pong, Update,
// Revoke, KeyOffer and KeyGrant carry it. An SSM keeps the highest it has seen, sends it in KeyRequest, and refuses a
// KeyOffer or KeyGrant below it, so no stale KDC can widen what another has narrowed.
//
// # Keys
//
// pub is a fresh public key of HPKE's MLKEM768-X25519 (X-Wing; RFC 9180, draft-ietf-hpke-pq), 1,216 bytes; the
// responder answers enc, 1,120 bytes. With info "ssmnet/1 session":
//
//	X   = HPKE export("ssmnet/1 export", 32)        export-only, HKDF-SHA256
//	PRK = HKDF-Extract(SHA-256, salt = K, ikm = X)  RFC 5869
//	T   = SHA-256(transcript)
//	key to B = HKDF-Expand(PRK, "ssmnet/1 key to responder" | T, 32)
//	key to A = HKDF-Expand(PRK, "ssmnet/1 key to requester" | T, 32)
//
// The transcript is the deterministic CBOR array
//
//	[version, suite, session id, A, B, na, pub, enc, order, terms]
//
// with the parties as [name, key id, boot, prefixes, SPI] and the terms as
// [selectors, rekey ms, idle ms, grace ms, until, [epoch, revision]]. K and the endpoints are not in it. Were the two
// sides told different things, their keys differ and nothing flows.
//
// # Rules
//
// The exchange is secret both ways and agreed one to one only while these hold (proof/README.md says what breaks
// without each).
//
//  1. Noise message 1 carries no payload, and the KDC allocates nothing for a session before a transport message has
//     verified. Transport messages are counted: none is taken twice.
//  2. KeyOffer, KeyAccept and KeyGrant name session id, A and B. KeyOffer and KeyGrant echo na. A checks na against the
//     request it has pending, and that the destination it asked for lies in the prefixes that the grant gives B (or
//     that B is the name it asked for). B takes A's name only from the offer. The KDC checks id, A and B in the accept.
//  3. Ephemerals travel only inside the KDC's channels.
//  4. One key per direction. K goes into the derivation; so does the transcript.
//  5. A session is provisional at the requester until it has opened a frame on it: it may send, but does not drain the
//     session before it. The responder answers the requester's first valid frame with a probe and sends nothing before
//     that frame. Either side destroys a session unconfirmed after ConfirmTimeout.
//  6. na and pub are fresh for each attempt and never sent twice.
//
// Which session to send on: the responder sets order = 1 + the highest it has had with that peer's present boot; both
// send on the confirmed session with the greatest (order, session id).
package control
