package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"ssmnet/kdc"
	"ssmnet/packet/control"
)

// maxAnswer bounds what a client reads, in bytes: the list of some hundred thousand peers.
const maxAnswer = 256 << 20

// Client calls the API. Its methods are those of kdc.KDC over the socket: their errors wrap the same sentinels, or are
// what the HTTP client gives when the KDC is not there. Deadlines are the caller's, by context.
type Client struct{ http *http.Client }

// NewClient makes a client of an HTTP client that reaches the KDC's socket, whatever host a URL names.
func NewClient(h *http.Client) *Client { return &Client{h} }

// Status is kdc.KDC.Status.
func (c *Client) Status(ctx context.Context) (kdc.Status, error) {
	return call[kdc.Status](ctx, c, http.MethodGet, "/v1/status", nil)
}

// AddPeer is kdc.KDC.AddPeer.
func (c *Client) AddPeer(ctx context.Context, n kdc.NewPeer) (kdc.Enrolment, error) {
	return call[kdc.Enrolment](ctx, c, http.MethodPost, "/v1/peers", n)
}

// Peers is kdc.KDC.Peers.
func (c *Client) Peers(ctx context.Context) ([]kdc.PeerInfo, error) {
	b, err := call[peersBody](ctx, c, http.MethodGet, "/v1/peers", nil)
	return b.Peers, err
}

// Peer is kdc.KDC.Peer.
func (c *Client) Peer(ctx context.Context, name string) (kdc.PeerInfo, error) {
	return callPeer[kdc.PeerInfo](ctx, c, http.MethodGet, name, "", nil)
}

// ChangePeer is kdc.KDC.ChangePeer.
func (c *Client) ChangePeer(ctx context.Context, name string, change kdc.PeerChange) (kdc.PeerInfo, error) {
	return callPeer[kdc.PeerInfo](ctx, c, http.MethodPatch, name, "", change)
}

// SuspendPeer is kdc.KDC.SuspendPeer.
func (c *Client) SuspendPeer(ctx context.Context, name string) ([]kdc.Receipt, error) {
	b, err := callPeer[receiptsBody](ctx, c, http.MethodPost, name, "/suspend", nil)
	return b.Receipts, err
}

// ResumePeer is kdc.KDC.ResumePeer.
func (c *Client) ResumePeer(ctx context.Context, name string) error {
	_, err := callPeer[empty](ctx, c, http.MethodPost, name, "/resume", nil)
	return err
}

// RemovePeer is kdc.KDC.RemovePeer.
func (c *Client) RemovePeer(ctx context.Context, name string) ([]kdc.Receipt, error) {
	b, err := callPeer[receiptsBody](ctx, c, http.MethodDelete, name, "", nil)
	return b.Receipts, err
}

// NewToken is kdc.KDC.NewToken.
func (c *Client) NewToken(ctx context.Context, name string, ttl time.Duration) (kdc.Enrolment, error) {
	return callPeer[kdc.Enrolment](ctx, c, http.MethodPost, name, "/token", tokenBody{ttl})
}

// RotatePeer is kdc.KDC.RotatePeer; wait is at most MaxWait.
func (c *Client) RotatePeer(ctx context.Context, name string, wait time.Duration) (kdc.Rotations, error) {
	return callPeer[kdc.Rotations](ctx, c, http.MethodPost, name, "/rotate", waitBody{wait})
}

// RotateAll is kdc.KDC.RotateAll; wait is at most MaxWait.
func (c *Client) RotateAll(ctx context.Context, wait time.Duration) (kdc.Rotations, error) {
	return call[kdc.Rotations](ctx, c, http.MethodPost, "/v1/rotate", waitBody{wait})
}

// CheckPolicy is kdc.KDC.CheckPolicy.
func (c *Client) CheckPolicy(ctx context.Context, text []byte) (kdc.PolicyReport, error) {
	return call[kdc.PolicyReport](ctx, c, http.MethodPost, "/v1/policy/check", text)
}

// ApplyPolicy is kdc.KDC.ApplyPolicy.
func (c *Client) ApplyPolicy(ctx context.Context, text []byte, ifRevision *uint64, note string) (
	kdc.PolicyReport, error) {
	q := url.Values{}
	if ifRevision != nil {
		q.Set("if_revision", strconv.FormatUint(*ifRevision, 10))
	}
	if note != "" {
		q.Set("note", note)
	}
	return call[kdc.PolicyReport](ctx, c, http.MethodPut, "/v1/policy?"+q.Encode(), text)
}

// Policy is kdc.KDC.Policy.
func (c *Client) Policy(ctx context.Context, revision uint64) (kdc.PolicyRevision, error) {
	return call[kdc.PolicyRevision](ctx, c, http.MethodGet, fmt.Sprintf("/v1/policy?revision=%d", revision), nil)
}

// Sessions is kdc.KDC.Sessions.
func (c *Client) Sessions(ctx context.Context, f kdc.SessionFilter) ([]kdc.SessionInfo, error) {
	b, err := call[sessionsBody](ctx, c, http.MethodGet, "/v1/sessions?"+query(f), nil)
	return b.Sessions, err
}

// query is a filter in a URL.
func query(f kdc.SessionFilter) string {
	q := url.Values{}
	if f.ID != (control.SessionID{}) {
		q.Set("id", f.ID.String())
	}
	for key, name := range map[string]string{"peer": f.Peer, "pair_a": f.PairA, "pair_b": f.PairB} {
		if name != "" {
			q.Set(key, name)
		}
	}
	return q.Encode()
}

// WatchSessions is kdc.KDC.WatchSessions. What it gives ends where ctx has not only if the KDC does.
func (c *Client) WatchSessions(ctx context.Context, f kdc.SessionFilter) (iter.Seq[kdc.SessionEvent], error) {
	resp, err := c.send(ctx, http.MethodGet, "/v1/sessions/watch?"+query(f), nil)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		_, err := read[empty](resp)
		return nil, err
	}
	return func(yield func(kdc.SessionEvent) bool) {
		defer resp.Body.Close()
		lines := json.NewDecoder(resp.Body)
		for {
			var e kdc.SessionEvent
			if lines.Decode(&e) != nil || !yield(e) {
				return
			}
		}
	}, nil
}

// RevokeSessions is kdc.KDC.RevokeSessions; wait is at most MaxWait.
func (c *Client) RevokeSessions(ctx context.Context, f kdc.SessionFilter, wait time.Duration) ([]kdc.Receipt, error) {
	b, err := call[receiptsBody](ctx, c, http.MethodPost, "/v1/sessions/revoke", revokeBody{f, wait})
	return b.Receipts, err
}

// callPeer calls what stands under a peer. A name that no peer can have is not sent: "." and ".." mean something else
// in a path.
func callPeer[T any](ctx context.Context, c *Client, method, name, under string, body any) (answer T, err error) {
	if !control.ValidName(name) {
		return answer, invalid("%q cannot be the name of a peer: want [a-z0-9][a-z0-9-]{0,62}", name)
	}
	return call[T](ctx, c, method, "/v1/peers/"+name+under, body)
}

// call sends body (a []byte as it is, anything else but nil as JSON) and reads the answer.
func call[T any](ctx context.Context, c *Client, method, target string, body any) (answer T, err error) {
	payload, isText := body.([]byte)
	if !isText && body != nil {
		if payload, err = json.Marshal(body); err != nil {
			return answer, err
		}
	}
	resp, err := c.send(ctx, method, target, payload)
	if err != nil {
		return answer, err
	}
	return read[T](resp)
}

func (c *Client) send(ctx context.Context, method, target string, payload []byte) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, "http://kdc"+target, bytes.NewReader(payload))
	if err != nil {
		return nil, err
	}
	return c.http.Do(r)
}

// read takes an answer that has an end.
func read[T any](resp *http.Response) (answer T, err error) {
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	defer clear(b) // an enrolment carries a key
	if err != nil {
		return answer, fmt.Errorf("read the KDC's answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return answer, restore(resp.Status, b)
	}
	if err := json.Unmarshal(b, &answer); err != nil {
		return answer, fmt.Errorf("the KDC's answer is malformed: %w", err)
	}
	return answer, nil
}
