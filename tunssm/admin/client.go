package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"ssmnet/packet/control"
	"ssmnet/tunssm"
)

// maxAnswer bounds what a client reads, in bytes.
const maxAnswer = 64 << 20

// Client calls the API. Its errors wrap the same sentinels, and besides them whatever the HTTP client gives when the
// SSM is not there. Deadlines are the caller's, by context.
type Client struct {
	http *http.Client
	most int64 // bytes of an answer
}

// NewClient makes a client of an HTTP client that reaches the SSM's socket, whatever host a URL names.
func NewClient(h *http.Client) *Client { return &Client{h, maxAnswer} }

// Status is tunssm.SSM.Status.
func (c *Client) Status(ctx context.Context) (tunssm.Status, error) {
	return call[tunssm.Status](ctx, c, http.MethodGet, "/v1/status")
}

// Ping is tunssm.SSM.Ping, for at most PingTimeout. Here as below, a name that no peer can have is not sent: "." and ".."
// mean something else in a path.
func (c *Client) Ping(ctx context.Context, peer string) (time.Duration, error) {
	p, err := callPeer[pong](ctx, c, "/v1/ping/", peer, "")
	return time.Duration(p.Micros * float64(time.Microsecond)), err
}

// Trace is tunssm.SSM.Trace.
func (c *Client) Trace(ctx context.Context, q tunssm.Query) (tunssm.Trace, error) {
	return call[tunssm.Trace](ctx, c, http.MethodGet, "/v1/trace?"+queryValues(q).Encode())
}

// Rekey is tunssm.SSM.Rekey.
func (c *Client) Rekey(ctx context.Context, peer string) error {
	_, err := callPeer[struct{}](ctx, c, "/v1/sessions/", peer, "/rekey")
	return err
}

// CloseSession is tunssm.SSM.CloseSession.
func (c *Client) CloseSession(ctx context.Context, peer string) error {
	_, err := callPeer[struct{}](ctx, c, "/v1/sessions/", peer, "/close")
	return err
}

// callPeer posts to what stands under a peer.
func callPeer[T any](ctx context.Context, c *Client, before, peer, after string) (answer T, err error) {
	if !control.ValidName(peer) {
		return answer, fmt.Errorf("%w: %q cannot be the name of a peer: want [a-z0-9][a-z0-9-]{0,62}", ErrUnknown, peer)
	}
	return call[T](ctx, c, http.MethodPost, before+peer+after)
}

// Reroute is tunssm.SSM.Reroute, after the operator's decisions have been read again.
func (c *Client) Reroute(ctx context.Context) error {
	_, err := call[struct{}](ctx, c, http.MethodPost, "/v1/reroute")
	return err
}

// Down asks the SSM to end; it goes on ending after the answer.
func (c *Client) Down(ctx context.Context) error {
	_, err := call[struct{}](ctx, c, http.MethodPost, "/v1/down")
	return err
}

func call[T any](ctx context.Context, c *Client, method, path string) (answer T, err error) {
	r, err := http.NewRequestWithContext(ctx, method, "http://ssm"+path, nil)
	if err != nil {
		return answer, err
	}
	resp, err := c.http.Do(r)
	if err != nil {
		return answer, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, c.most+1))
	switch {
	case err != nil:
		return answer, fmt.Errorf("read the SSM's answer: %w", err)
	case int64(len(b)) > c.most:
		return answer, fmt.Errorf("the SSM's answer is longer than %d bytes", c.most)
	}
	if resp.StatusCode != http.StatusOK {
		return answer, restore(resp.Status, b)
	}
	if err := json.Unmarshal(b, &answer); err != nil {
		return answer, fmt.Errorf("the SSM's answer is malformed: %w", err)
	}
	return answer, nil
}
