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
// TCP, by default to port 7600. The client sends a preface of 16 bytes (widths here and below are in bits, numbers are
// big-endian)
//
//	magic(32) "SSMN" | version(8) = 1 | zero(24) | key id(64)
//
// and then runs Noise_NNpsk0_25519_AESGCM_SHA256 (the Noise Protocol Framework, revision 34) as initiator, with the
// permanent key as PSK and the preface as prologue. Both handshake messages have an empty payload
//
//	ephemeral public key(256) | tag(128)
//
// so each is 48 bytes and needs no length. The KDC reads preface and first message, 64 bytes, before it judges either,
// and answers an unknown key id, a wrong key and a malformed preface alike: it closes without a byte. It learns which
// before it computes any Diffie-Hellman, because psk0 mixes the key in first.
//
// After the handshake each side sends transport messages
//
//	length(16) | Noise transport message of that many bytes, 16 to 65,535
//
// whose plaintext is one message, 16 bytes shorter. The additional data is empty; the nonce counts from zero in each
// direction, so a record that is dropped, repeated or out of order does not verify, and ends the connection. The first
// of the client is Hello or, under a token's key, Enrol; until it has verified, within HandshakeTimeout (5 s) of the
// connection, the KDC keeps nothing. A side pings after PingInterval (15 s) and takes the connection for dead when
// nothing has arrived for DeadAfter (45 s).
//
// # Messages
//
// A message is the CBOR array (RFC 8949, core deterministic encoding)
//
//	[type, request id, body]
//
// where body is a map whose keys are the numbers of its fields: in the list below, and in the structs of messages.go, a
// body's first field has key 1 and each further field the next. A call carries a request id other than zero, chosen by
// its sender, and its reply repeats it; all else carries zero. A field that is absent is zero or empty. Unknown keys in
// a body are ignored; an unknown type, of 8 bits, is answered with a Refusal that names it and otherwise ignored.
// Indefinite lengths, tags, duplicate keys, nesting over 8, maps over 64 pairs and lists over MaxList are malformed, as
// are arrays with a field too few or too many; a malformed message ends the connection.
//
//	Hello, SessionReport...  ->          on connecting: boot, port, addresses; then every live session, 256 a report
//	                         <- Welcome  name, addresses, overlays, routes, KDCs, as_of, detached
//	KeyRequest               ->          <- KeyGrant | KeyDenial      (above)
//	                         <- KeyOffer      KeyAccept | KeyDenial ->
//	                         <- Revoke        RevokeAck ->            sessions to destroy
//	                         <- Update                                what Welcome said, changed
//	SessionReport            ->                                       sessions opened and closed, coalesced for 200 ms
//	Endpoint                 ->          <- Endpoint                  candidates changed: its own; those of a peer
//	Lookup                   ->          <- LookupReply               name or flow to peer and decision; no session
//	Ping                    <->  Pong                                 either side; a KDC's carries as_of and detached
//	                         <- Pong                                  with request id 0: detached has changed
//	Enrol                    ->          <- EnrolGrant                under a token: the permanent key
//	                         <- Refusal                               not understood, or a displaced boot
//
// Their numbers and fields:
//
//	 1 Hello          Boot, Reach, AES, Sessions, Software
//	 2 Welcome        Config, KDC, Detached
//	 3 Update         Config
//	 4 SessionReport  Opened, Closed, Last
//	 5 KeyRequest     Flow, Peer, Na, Pub, SPI, AsOf
//	 6 KeyOffer       Session, A, B, Na, K, Pub, Suite, Terms, Candidates
//	 7 KeyAccept      Session, A, B, Enc, SPI, Order
//	 8 KeyGrant       Session, A, B, Na, K, Enc, Suite, Order, Terms, Candidates
//	 9 KeyDenial      Na, Reason
//	12 Revoke         Sessions, Reason, AsOf
//	13 RevokeAck      Sessions
//	14 Endpoint       Reach, Peer, Candidates
//	15 Lookup         Name, Flow
//	16 LookupReply    Peer, Addresses, Prefixes, Online, Permitted, Grant, Reason
//	18 Enrol          Software
//	19 EnrolGrant     Name, KeyID, Key, KDCs
//	20 Ping
//	21 Pong           AsOf, Detached
//	22 Refusal        Refused, Reason
//
// The structs within them are likewise maps
//
//	Reach         Port, Addresses, Fixed
//	Config        Name, Addresses, Subnets, Overlays, Routes, KDCs, AsOf
//	SessionEntry  ID, Requester, Responder, BootA, BootB, Selectors, AgeMillis, AsOf
//	Flow          Protocol, Class, Src, Dst, SrcPort, DstPort
//	Selector      Src, Dst, Protocol, Ports
//	PortRange     Lo, Hi
//
// or, where every field counts, arrays
//
//	Party  [Name, KeyID, Boot, Prefixes, SPI]
//	Terms  [Selectors, RekeyMillis, IdleMillis, GraceMillis, Until, AsOf]
//	AsOf   [Epoch, Revision]
//
// A session id, a boot, na and a digest are byte strings of 16 bytes, a key id of 8, K and keys of 32. An address is a
// byte string of 4 or 16 bytes, a prefix one of its address (with no bit set behind the prefix) and its length in one
// byte, a candidate one of its address and its port in two bytes, little-endian; two zero bytes are no candidate. IPv4
// is never written as IPv6, nor with a zone. A list or byte string of nothing is written empty; a Flow or Reach that is
// not there is null. The ports of a Flow are left out where they are zero; its class is 0 where the protocol could not
// be read, 1 where only the protocol could, 2 where everything could. Protocol 0 in a selector stands for all.
//
// # Snapshots
//
// AsOf = (epoch, store revision of the last change that decisions depend on) says which state of policy and peers a
// decision was made under. Welcome, Pong, Update, Revoke, KeyOffer and KeyGrant carry it. An SSM keeps the highest it
// has seen, sends it in KeyRequest, and refuses a KeyOffer or KeyGrant below it. A KDC that has long been cut off from
// its store is detached: it denies every KeyRequest, says so in Welcome and Pong, and contact with it does not count
// for what the terms call grace. So no stale KDC can widen what another has narrowed.
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
// with version = 1 and all else as it stands in the messages: A's SPI from the request, B's from the accept. K and the
// endpoints are not in it. Were the two sides told different things, their keys differ and nothing flows. A grant and an
// offer that lack any of this, or carry a K, pub or enc of another length, SPI 0, order 0, session id 0 or an unknown
// suite, are refused.
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
