package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"ssmnet/cmd/internal/cli"
	"ssmnet/tunssm/admin"
)

func pingCommand() *cli.Command {
	return &cli.Command{
		Name: "ping", Usage: "measure the way to a peer through the tunnel", ArgsUsage: "PEER",
		Description: cli.Describe("The first echo acquires a session if there is none; its time is told apart from the others'.",
			"ssm ping db-1", "ssm ping db-1 -c 20 -o json"),
		Flags: []cli.Flag{cli.OutputFlag(),
			&cli.IntFlag{Name: "count", Aliases: []string{"c"}, Usage: "`NUMBER` of echoes", Value: 5}},
		Action: ping,
	}
}

// pingResult is the JSON; times are in microseconds.
type pingResult struct {
	Peer     string  `json:"peer"`
	Sent     int     `json:"sent"`
	Received int     `json:"received"`
	First    float64 `json:"first_us,omitempty"`
	Median   float64 `json:"median_us,omitempty"` // of those after the first
	Worst    float64 `json:"worst_us,omitempty"`
}

func ping(c *cli.Context) error {
	args, err := cli.Args(c, 1, 1)
	if err != nil {
		return err
	}
	n := c.Int("count")
	if n < 1 || n > 10000 {
		return cli.BadUsage(c, "--count %d is out of bounds: 1 to 10000", n)
	}
	r, err := echoes(c, args[0], n)
	if err != nil {
		return err
	}
	if cli.WantsJSON(c) {
		err = cli.JSON(c.App.Writer, "ssmnet.ping/v1", r)
	} else {
		err = cli.PrintLine(c, "%s: %d of %d echoes; %s", r.Peer, r.Received, r.Sent, r.times())
	}
	if err == nil && r.Received == 0 {
		return cli.TimedOutf("%s did not answer within %s", r.Peer, admin.PingTimeout)
	}
	return err
}

// steadyTimeout bounds each echo after the first, which may have had to acquire a session.
const steadyTimeout = 2 * time.Second

// echoes sends them one after the other. A KDC's no ends it; an echo that is lost does not.
func echoes(c *cli.Context, peer string, n int) (pingResult, error) {
	r := pingResult{Peer: peer}
	var steady []float64
	show, done := cli.Progress(c.App.ErrWriter)
	defer done()
	limit := admin.PingTimeout + time.Second // the SSM's own comes first
	for range n {
		show("%s: %d of %d echoes answered, %d sent", peer, r.Received, n, r.Sent)
		took, err := ask(c, func(ctx context.Context, s *admin.Client) (time.Duration, error) {
			ctx, cancel := context.WithTimeout(ctx, limit)
			defer cancel()
			return s.Ping(ctx, peer)
		})
		r.Sent++
		limit = steadyTimeout
		if cli.Code(err) == cli.TimedOut {
			continue
		}
		if errors.Is(err, admin.ErrUnknown) && isSelf(c, peer) {
			return r, cli.NotFoundf("%s is this host itself: name another peer", peer)
		}
		if err != nil {
			return r, err
		}
		micros := float64(took) / float64(time.Microsecond)
		if r.Received++; r.Received == 1 {
			r.First = micros
			continue
		}
		steady = append(steady, micros)
	}
	if len(steady) > 0 {
		slices.Sort(steady)
		r.Median, r.Worst = steady[len(steady)/2], steady[len(steady)-1]
	}
	return r, nil
}

// isSelf says whether that is the SSM's own name.
func isSelf(c *cli.Context, peer string) bool {
	st, err := ownStatus(c)
	return err == nil && st.Name == peer
}

func (r pingResult) times() string {
	if r.Received == 0 {
		return "no answer"
	}
	d := func(us float64) string { return cli.Latency(time.Duration(us * float64(time.Microsecond))) }
	text := fmt.Sprintf("first %s", d(r.First))
	if r.Received > 1 {
		text += fmt.Sprintf(", then median %s, worst %s", d(r.Median), d(r.Worst))
	}
	return text
}
