package kdc

import (
	"ssmnet/packet/control"
	"ssmnet/packet/secret"
)

// What becomes of the keys that a peer has; a next key that a rotation made is drawn as rotating:
//
//	                         newToken                 redeem               rotate                   promote
//	token                    token                    token+next           -                        -
//	token+next               token                    token+next           -                        current
//	current                  current+token            -                    current+rotating         -
//	current+rotating         current+token+rotating   -                    current+rotating         current
//	current+token            current+token            current+token+next   current+token+rotating   -
//	current+token+next       current+token            current+token+next   current+token+rotating   current
//	current+token+rotating   current+token+rotating   current+token+next   current+token+rotating   current+token
//
// One mechanism delivers and replaces a permanent key. A redeemed token (enrol.go), or a rotation (rotate.go), makes a next
// key, which is stored before it is sent. At the first transport message that verifies under next it becomes current, and
// the key before it and the token that it was redeemed for die; an ack would prove nothing. Until then the token can be
// redeemed again, which replaces next: so an EnrolGrant that is lost does no harm, and a hundred redemptions yield one peer
// with one key.
type peerKeys struct {
	Current  *keyRecord `json:"current,omitempty"`
	Next     *keyRecord `json:"next,omitempty"`
	Rotation bool       `json:"rotation,omitempty"` // what made next
	Token    *keyRecord `json:"token,omitempty"`
}

// newToken gives the peer a token. An older one dies, with what it was redeemed for; a rotation goes on.
func (p *peerKeys) newToken(token *keyRecord) {
	p.Token = token
	if !p.Rotation {
		p.Next = nil
	}
}

// redeem makes key, for which the token was redeemed, the next one.
func (p *peerKeys) redeem(key *keyRecord) { p.Next, p.Rotation = key, false }

// rotate makes key, which a rotation has made, the next one.
func (p *peerKeys) rotate(key *keyRecord) { p.Next, p.Rotation = key, true }

// promote makes next the current key.
func (p *peerKeys) promote() {
	if !p.Rotation {
		p.Token = nil
	}
	p.Current, p.Next, p.Rotation = p.Next, nil, false
}

// rotating is the next key that a rotation has made, nil where none is under way.
func (p *peerKeys) rotating() *keyRecord {
	if !p.Rotation {
		return nil
	}
	return p.Next
}

// replacing says what becomes of a next key that was never used.
func (p *peerKeys) replacing() string {
	switch {
	case p.Next == nil:
		return ""
	case p.Rotation:
		return "replaces a rotation"
	}
	return "replaces a redeemed key"
}

// keyRole says which of a peer's keys an id names.
type keyRole uint8

const (
	roleCurrent keyRole = iota + 1
	roleNext
	roleToken
)

// keyOwner is whose key an id names, and which of their keys.
type keyOwner struct {
	peer *peer
	role keyRole
	key  *keyRecord
}

// holder finds the peer whose key of that role a connection has shown to hold, as it is in s.
func (s *snapshot) holder(who keyOwner, role keyRole) (*peer, error) {
	now, ok := s.keys[who.key.ID]
	if !ok || now.role != role || now.peer.record.UID != who.peer.record.UID || now.peer.record.Suspended {
		return nil, ErrNotFound
	}
	return now.peer, nil
}

// newKey makes a key and its record.
func (k *KDC) newKey(name string) (secret.Key, *keyRecord) {
	key, id := secret.NewKey(), control.NewKeyID()
	return key, &keyRecord{ID: id, Sealed: k.ring.seal(name, id, key), Made: k.now().UTC()}
}
