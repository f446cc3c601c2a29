package kdc

import (
	"bytes"
	"context"
	"errors"
	"net/netip"

	"ssmnet/packet/control"
)

// enrol answers the first message under a token.
func (k *KDC) enrol(ctx context.Context, conn *control.Conn, who keyOwner, first control.Envelope) {
	grant, reason := k.redeemToken(ctx, who, first.Message, source(conn.RemoteAddr()))
	if reason != 0 {
		refuse(conn, first, reason)
		return
	}
	conn.Send(first.ID, grant)
	clear(grant.Key)
	conn.Shutdown(farewell)
}

// redeemToken makes a next key for the peer of a token. The caller clears it.
func (k *KDC) redeemToken(
	ctx context.Context, who keyOwner, m control.Message, from netip.Addr,
) (*control.EnrolGrant, control.Reason) {
	if _, ok := m.(*control.Enrol); !ok {
		return nil, control.Malformed
	}
	if !k.mayRedeem(who.key.ID) {
		return nil, control.Busy
	}
	name := who.peer.name
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
		k.warn("token not redeemed", "peer", name, "key_id", who.key.ID, "source", from, "error", err)
		if errors.Is(err, ErrNotFound) {
			return nil, control.Denied // the token has died meanwhile
		}
		return nil, control.Unavailable
	}
	e := event{Event: "enrol", Peer: name, KeyID: next.ID, Source: from.String(), Note: replaced}
	if again {
		e.Event = "enrol.again"
	}
	k.audit.add(e)
	k.log.Info("token redeemed", "peer", name, "key_id", next.ID, "source", from, "again", again)
	return &control.EnrolGrant{
		Name: name, KeyID: next.ID, Key: bytes.Clone(key.Bytes()), KDCs: k.Config().Addresses,
	}, 0
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
