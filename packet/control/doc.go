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
//	install
//	4 release the held packet
//
// or, where the KDC or the responder says no, a KeyDenial with its reason in place of the KeyGrant, and step 4 answers
// the sender of the packet. The responder's no reaches the requester as behind or as refused: policy is not for it to tell.
// Suite, candidates and as_of, which are not drawn, travel with them. The responder installs and accepts before the
// requester has the key, so the first packet finds its SPI. The KDC waits 4 s (AcceptTimeout)
// for the KeyAccept and then answers offline. After 2 s of silence (RequestTimeout) the requester turns to another KDC;
// where there is none it goes on waiting, for 5 s in all (HoldTimeout). What is lost on the way TCP repeats: a second
// request would only queue behind the first.
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
// so each is 48 bytes and needs no length. After the handshake each side sends transport messages
//
//	length(16) | Noise transport message of that many bytes, 16 to 65,535
//
// whose plaintext is one message, 16 bytes shorter. The additional data is empty; the nonce counts from zero in each
// direction, so a record that is dropped, repeated or out of order does not verify, and ends the connection. The first
// of the client is Hello or, under a token's key, Enrol; until it has verified, within HandshakeTimeout (5 s) of the
// connection, the KDC keeps nothing. A side pings after PingInterval (15 s), and sooner where an answer is late,
// and takes the connection for dead when nothing has arrived for DeadAfter (45 s).
//
//	client                                KDC
//	64 bytes: preface, message 1 ->
//	                                      judges both, having read both
//	                                   <- 48 bytes: message 2
//	2 + n bytes: Hello or Enrol ->
//	                                      keeps state for the connection
//	2 + n bytes each: messages   <->      2 + n bytes each: messages
//
// The KDC answers an unknown key id, a wrong key and a malformed preface alike: it closes without a byte. It learns which
// before it computes any Diffie-Hellman, because psk0 mixes the key in first.
//
// # Messages
//
// A message is the CBOR array (RFC 8949, core deterministic encoding)
//
//	[type, request id, body]
//
// where body is a map whose keys are the numbers of its fields: in the table below a body's first field has key 1 and each
// further one the next. A call carries a request id other than zero, chosen by its sender, and its reply repeats it; all
// else carries zero.
//
//	Hello, SessionReport...  ->          on connecting: boot, port, addresses; then every live session, 256 a report
//	                         <- Welcome  name, addresses, overlays, routes, KDCs, as_of, detached
//	KeyRequest               ->          <- KeyGrant | KeyDenial      (above)
//	                         <- KeyOffer      KeyAccept | KeyDenial ->
//	                         <- Revoke        RevokeAck ->            sessions to destroy
//	                         <- Narrow        NarrowAck ->            selectors of a session taken away
//	                         <- Update                                what Welcome said, changed
//	SessionReport            ->                                       sessions opened and closed, coalesced for 200 ms
//	Endpoint                 ->          <- Endpoint                  candidates changed: its own; those of a peer
//	Lookup                   ->          <- LookupReply               name or flow to peer and decision; no session
//	Ping                    <->  Pong                                 either side; a KDC's carries as_of and detached
//	                         <- Pong                                  with request id 0: detached has changed
//	                         <- RotateKey                             the next permanent key
//	Enrol                    ->          <- EnrolGrant                under a token: the permanent key
//	                         <- Refusal                               not understood, or a displaced boot
//
// Their numbers, fields and the types of these, where the type is not the struct of the same name:
//
//	 1 Hello          Boot b16, Reach, AES bool, Sessions u32, Software text
//	 2 Welcome        Config, KDC b16, Detached bool
//	 3 Update         Config
//	 4 SessionReport  Opened []SessionEntry, Closed []b16, Last bool
//	 5 KeyRequest     Flow ?Flow, Peer text, Na b16, Pub bytes, SPI u32, AsOf
//	 6 KeyOffer       Session b16, A Party, B Party, Na b16, K bytes, Pub bytes, Suite u8, Terms, Candidates []candidate
//	 7 KeyAccept      Session b16, A text, B text, Enc bytes, SPI u32, Order u64
//	 8 KeyGrant       Session b16, A Party, B Party, Na b16, K bytes, Enc bytes, Suite u8, Order u64, Terms,
//	                  Candidates []candidate
//	 9 KeyDenial      Na b16, Reason u8
//	10 Narrow         Session b16, Selectors []Selector, AsOf
//	11 NarrowAck      Session b16, AsOf, Digest b16
//	12 Revoke         Sessions []b16, Reason u8, AsOf
//	13 RevokeAck      Sessions []b16
//	14 Endpoint       Reach ?Reach, Peer text, Candidates []candidate
//	15 Lookup         Name text, Flow ?Flow
//	16 LookupReply    Peer text, Addresses []address, Prefixes []prefix, Online bool, Permitted bool, Grant text,
//	                  Reason u8, Replies bool
//	17 RotateKey      KeyID b8, Key bytes
//	18 Enrol          Software text
//	19 EnrolGrant     Name text, KeyID b8, Key bytes, KDCs []text
//	20 Ping
//	21 Pong           AsOf, Detached bool
//	22 Refusal        Refused u8, Reason u8
//
// The structs within them are likewise maps
//
//	Reach         Port u16, Addresses []address, Fixed candidate
//	Config        Name text, Addresses []address, Subnets []prefix, Overlays []prefix, Routes []prefix, KDCs []text, AsOf
//	SessionEntry  ID b16, Requester text, Responder text, BootA b16, BootB b16, Digest b16,
//	              AgeMillis u64, AsOf
//	Flow          Protocol u8, Class u8, Src address, Dst address, SrcPort u16, DstPort u16
//	Selector      Src prefix, Dst prefix, Protocol u8, Ports PortRange
//	PortRange     Lo u16, Hi u16
//
// or, where every field counts, arrays
//
//	Party  [Name text, KeyID b8, Boot b16, Prefixes []prefix, SPI u32]
//	Terms  [Selectors []Selector, RekeyMillis u32, IdleMillis u32, GraceMillis u32, Until i64, AsOf]
//	AsOf   [Epoch u64, Revision u64]
//
// where
//
//	u8, u16, u32, u64  is an unsigned integer of that many bits, i64 one with a sign
//	b8, b16            is a byte string of that many bytes, bytes one of any length
//	address            is a byte string of 4 or 16 bytes
//	prefix             is one of its address, with no bit set behind the prefix, and its length in one byte
//	candidate          is one of its address and its port in two bytes, little-endian; two zero bytes are none
//	[]T                is a list of T, and ?T is a T or null, for none
//
// IPv4 is never written as IPv6, nor with a zone. A field that is absent is zero or empty; a sender leaves out only the
// ports of a Flow, where they are zero. A Flow's Class is 0 where the protocol could not be read, 1 where only the
// protocol could, 2 where everything could. Protocol 0 in a selector stands for all. Until is in Unix seconds, zero for
// never. Suite is one of package packet's: 1 where both sides' Hello says AES, that their CPUs have instructions for
// it, otherwise 2. Sessions in Hello says how many the reports will list; KDC in Welcome is the id of this run of the
// KDC. K and keys are 32 bytes.
//
// # Malformed
//
// A malformed message ends the connection. Malformed is what is not well-formed CBOR or not the array of three that is
// above; indefinite lengths, tags, duplicate keys, text that is not UTF-8; nesting over 8, the array and its body
// counted; maps over 64 pairs; lists over 1,024 (MaxList); a value of another type than the table's; a struct's array
// with a field too few or too many. A receiver need not check that the encoding is the deterministic one, nor refuse
// null for a value that is absent, a list of numbers for a byte string, a map for an address, prefix or candidate that
// is none, or a zone in a prefix, which it drops. Unknown keys in a body or struct are ignored; an unknown type, of 8
// bits, is answered with a Refusal that names it and otherwise ignored. Malformed are moreover
//
//   - more than 8 Addresses in a Reach, 10 Candidates, 256 Sessions in a Revoke, 256 Opened or Closed in a SessionReport,
//     8 KDCs in a Config, 512 selectors
//   - a candidate without a port in Candidates, or in Fixed where it has an address
//   - an address, prefix or candidate that is not as above in a Reach, Config, Party, Flow, Selector or in Candidates, but
//     for a Fixed that is none; a Flow between two address families
//   - a name that does not match [a-z0-9][a-z0-9-]{0,62} in a Party, as Requester or Responder, or as the Peer of a
//     KeyRequest without a Flow
//   - Software of more than 128 bytes, or with what cannot be printed
//   - an entry of Config's KDCs that is not HOST:PORT with a port from 1 to 65535, where HOST is a name, or an address
//     without a zone and neither link-local, multicast nor unspecified
//
// # Reasons
//
//	 1 Denied         policy permits no such flow between the two
//	 2 Unknown        no peer has the destination
//	 3 Offline      * the responder is not connected, or did not accept in time
//	 4 Behind       * this KDC has not yet seen what the requester has
//	 5 Detached     * this KDC is cut off from its store
//	 6 Unavailable  * this KDC cannot record its decision
//	 7 Busy         * too many requests in flight
//	 8 Malformed      the request makes no sense
//	 9 Conflict       this boot was displaced by a newer one
//	10 Refused        the responder would not accept the offer
//	11 Unsupported    a message type this side does not know
//	12 Suspended      an operator suspended or removed a peer
//	13 Changed        policy changed
//	14 Operator       an operator revoked the session
//	15 Restarted      the other side has another boot
//	16 NoKDC          no KDC answers: an SSM's own finding, never on the wire
//
// Those with a star (AskAnother) are one KDC's alone: the requester turns to another.
//
// # Snapshots
//
// AsOf = (epoch, store revision of the last change that decisions depend on) says which state of policy and peers a
// decision was made under. Welcome, Pong, Update, Revoke, KeyOffer and KeyGrant carry it. An SSM keeps the highest it
// has seen, sends it in KeyRequest, and refuses a KeyOffer or KeyGrant below it. A KDC that has long been cut off from
// its store is detached: it denies every KeyRequest, says so in Welcome and Pong, and contact with it does not count
// for what the terms call grace. So no stale KDC can widen what another has narrowed.
//
// # Narrowing
//
// Where policy comes to permit a pair less than its live session carries, but not nothing, the KDC sends both sides a
// Narrow with all the selectors that the pair has now. Each side lets the session carry from then on only the flows that
// both its own selectors and those give the right to start, and their replies. It answers NarrowAck with the digest of its
// selectors and the AsOf that it has them as of, or, where it has no such session, with zeros and the AsOf of the Narrow.
// A Narrow of a lower AsOf than the grant's or the last one's is acked, but changes nothing, so that several KDCs may send
// theirs in any order; one of the same AsOf may be narrower, where a grant has ended by time. What policy permits besides
// is had by another KeyRequest. A SessionEntry tells digest and AsOf as they are after narrowing. Where two acks of one
// Narrow differ the KDC revokes the session.
//
// The digest of a list of selectors is the first 16 bytes of the SHA-256 of the list as it stands in Terms. Both sides come
// to the same list, which they make so: for each selector of the session, in their order, it takes in the selector itself
// where one of the Narrow covers it, otherwise its intersections with those of the Narrow, in their order. To take in one
// that the list has a cover of does nothing; otherwise those that it covers are taken out, and it is put at the end. The
// list is complete once it has 512.
//
// A selector covers another whose Src and Dst lie within its own, where its Protocol is 0 or the same and, for TCP and UDP,
// its Ports include the other's. Two intersect where of either prefix of the one and that of the other one lies within
// the other; the intersection has that one. Its Protocol and Ports are those of the Narrow's where the session's Protocol
// is 0, and the session's where the Narrow's is 0; otherwise the protocols must be the same, and for TCP and UDP it has the
// ports that both have, of which there must be one, for others the session's.
//
// # Lookups
//
// Lookup asks what a KeyRequest for a peer or flow would come to, and has no consequence: no session, no line of the audit
// record. LookupReply says who has the destination, whether the peer is online, and the grant that permits the flow, or
// the reason why not. Of a peer with which policy permits the asker nothing at all it has only the reason that a KeyDenial
// would have, and the name where the asker gave it; where nothing but suspension is in the way the reason is that. As
// with a KeyDenial, some reasons (AskAnother) are one KDC's alone.
//
// # Permanent keys
//
// A peer has a current key and, while it enrols or rotates, a next one. The KDC stores next before it sends it, in an
// EnrolGrant for a token or in a RotateKey on a connection that runs under current; the SSM saves both before it uses
// next. Next becomes current, and the key before it dies, at the first transport message that verifies under it: never
// on an ack, which would prove nothing, nor on a handshake, which could be a replay. A token dies with the key that it
// was redeemed for, and outlives a rotation.
//
// Until then everything can be repeated: a token redeemed again, or a rotation, makes another next in place of the one
// before, and a connection that comes under current is sent the next of a rotation anew. An SSM that has both tries next
// first and, where that KDC does not know it (its state may be older), current. It forgets current at the first Welcome
// under next. The connection that ran under the dead key goes on for RequestTimeout, for the answers due on it; so for a
// while an SSM has connections under two keys, and what it says in an exchange (Party) names the key of the connection
// that the exchange travels on.
//
// # Tokens and identities
//
// What carries a key to an SSM is a token, in text, or an identity, in a file:
//
//	token     "ssmnet-token-" base64url( [name text, key id b8, key bytes, KDCs []text] | checksum(32) )
//	identity  {"schema": "ssmnet.identity/v1", "name": NAME, "key_id": HEX, "key": BASE64, "kdcs": [HOST:PORT, ...],
//	          "next": {"key_id": HEX, "key": BASE64}}
//
// The array of a token is CBOR as in messages, the checksum the first 4 bytes of its SHA-256; base64url (RFC 4648, section
// 5) goes without padding, and its unused bits are zero. White space around a token is no part of it. An identity is one
// JSON object (RFC 8259) with no field but these, its base64 that of section 4, with padding; next is there only while a
// rotation is under way, and neither its id nor its key is the other one, nor its id zero. In both the name is a peer's, a
// key has 32 bytes and there are 1 to 8 KDCs, as in Config; neither is longer than 64 KiB.
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
//     that frame. Either side destroys a session unconfirmed after ConfirmTimeout (10 s).
//  6. na and pub are fresh for each attempt and never sent twice.
//
// Which session to send on: the responder sets order = 1 + the highest it has had with that peer's present boot; both
// send on the confirmed session with the greatest (order, session id).
package control
