package kdc

import (
	"bytes"
	"context"
	"errors"

	"ssmnet/packet/control"
)

// enrol redeems a token.
func (k *KDC) enrol(ctx context.Context, conn *control.Conn, who keyOwner, first control.Envelope) {
	name := who.peer.name
	defer conn.Shutdown(farewell)
	if _, ok := first.Message.(*control.Enrol); !ok {
		conn.Send(first.ID, &control.Refusal{Refused: first.Message.Type(), Reason: control.Malformed})
		return
	}
	if !k.mayRedeem(who.key.ID) {
		conn.Send(first.ID, &control.Refusal{Refused: control.TypeEnrol, Reason: control.Busy})
		return
	}
	key, next := k.newKey(name)
	defer key.Destroy()
	again, replaced := false, ""
	_, err := k.change(ctx, func(s *snapshot) (write, error) {
		p, err := s.holder(who, roleToken)
		if err != nil {
			return write{}, err
		}
		record := p.record.clone()
		again, replaced = record.Next != nil && record.rotating() == nil, record.replacing()
		record.redeem(next)
		return k.replace(p, record), nil
	})
	if err != nil {
		reason := control.Unavailable
		if errors.Is(err, ErrNotFound) {
			reason = control.Denied // the token has died meanwhile
		}
		k.warn("token not redeemed", "peer", name, "key_id", who.key.ID, "error", err)
		conn.Send(first.ID, &control.Refusal{Refused: control.TypeEnrol, Reason: reason})
		return
	}
	e := event{Event: "enrol", Peer: name, KeyID: next.ID, Source: source(conn.RemoteAddr()).String(), Note: replaced}
	if again {
		e.Event = "enrol.again"
	}
	k.audit.add(e)
	k.log.Info("token redeemed", "peer", name, "key_id", next.ID, "again", again)
	grant := &control.EnrolGrant{Name: name, KeyID: next.ID, Key: bytes.Clone(key.Bytes()), KDCs: k.Config().Addresses}
	conn.Send(first.ID, grant)
	clear(grant.Key)
}

// promote makes the next key current: a message has verified under it.
func (k *KDC) promote(ctx context.Context, who keyOwner) error {
	_, err := k.change(ctx, func(s *snapshot) (write, error) {
		if p := s.peers[who.peer.name]; p != nil && sameKey(p.record.Current, who.key.ID) {
			return write{}, nil // by another connection, meanwhile
		}
		p, err := s.holder(who, roleNext)
		if err != nil {
			return write{}, err
		}
		record := p.record.clone()
		record.promote()
		return k.replace(p, record), nil
	})
	if err == nil {
		k.audit.add(event{Event: "key.current", Peer: who.peer.name, KeyID: who.key.ID})
		k.log.Info("key in use", "peer", who.peer.name, "key_id", who.key.ID)
	}
	return err
}
