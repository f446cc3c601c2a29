package tunssm

import (
	"context"
	"errors"
	"fmt"
	"net"

	"ssmnet/packet/control"
	"ssmnet/packet/secret"
)

// Dial opens a control connection's stream: TCP to HOST:PORT.
type Dial func(ctx context.Context, address string) (net.Conn, error)

// ErrIntroduce: the token was redeemed and the identity saved, but the KDC has not yet welcomed the new peer. Whether the
// identity is good shows at the next Hello.
var ErrIntroduce = errors.New("the identity is written, but the KDC did not welcome it")

// Enrol redeems a token at the first KDC that answers. save keeps the identity before it is used; the token dies when
// the KDC has then heard from us under the new key, so an enrolment that was cut short can be repeated. It returns what
// the KDC says to the new peer. Once save has been called, errors are those of save and ErrIntroduce.
func Enrol(ctx context.Context, dial Dial, token control.Token, software string, save func(control.Identity) error) (
	control.Config, error) {
	var faults []error
	for _, address := range token.KDCs {
		identity, err := redeem(ctx, dial, address, token, software)
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", address, err))
			continue
		}
		if err := save(identity); err != nil {
			return control.Config{}, err
		}
		config, err := introduce(ctx, dial, address, identity, software)
		if err != nil {
			return config, fmt.Errorf("%w: %s: %w", ErrIntroduce, address, err)
		}
		return config, nil
	}
	return control.Config{}, errors.Join(faults...)
}

// redeem trades the token for an identity.
func redeem(ctx context.Context, dial Dial, address string, token control.Token, software string) (
	id control.Identity, err error) {
	m, err := roundTrip(ctx, dial, address, token.KeyID, token.Key, &control.Enrol{Software: software})
	if err != nil {
		return id, err
	}
	g, ok := m.(*control.EnrolGrant)
	if !ok {
		return id, refusal(m)
	}
	defer clear(g.Key)
	if g.Name != token.Name {
		return id, fmt.Errorf("%w: an enrolment for another peer", control.ErrMalformed)
	}
	kdcs := g.KDCs
	if len(kdcs) == 0 {
		kdcs = token.KDCs
	}
	return control.NewIdentity(g.Name, g.KeyID, g.Key, kdcs)
}

// introduce says Hello under the new key, as a run of its own that ends at once.
func introduce(ctx context.Context, dial Dial, address string, id control.Identity, software string) (
	control.Config, error) {
	hello := &control.Hello{Boot: control.NewBoot(), AES: hasAES, Software: software}
	m, err := roundTrip(ctx, dial, address, id.KeyID, id.Key, hello)
	if err != nil {
		return control.Config{}, err
	}
	if w, ok := m.(*control.Welcome); ok {
		return w.Config, nil
	}
	return control.Config{}, refusal(m)
}

// roundTrip opens a connection for one message and its answer.
func roundTrip(ctx context.Context, dial Dial, address string, id control.KeyID, key secret.Key, m control.Message) (
	control.Message, error) {
	ctx, cancel := context.WithTimeout(ctx, control.HandshakeTimeout)
	defer cancel()
	nc, err := dial(ctx, address)
	if err != nil {
		return nil, err
	}
	conn, err := control.Connect(ctx, nc, id, key)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if err := conn.Send(1, m); err != nil {
		return nil, err
	}
	e, err := conn.Receive()
	return e.Message, err
}

func refusal(m control.Message) error {
	if r, ok := m.(*control.Refusal); ok {
		return fmt.Errorf("%w: %s", errRefusedHello, r.Reason)
	}
	return fmt.Errorf("%w: an answer of type %d", control.ErrMalformed, m.Type())
}
