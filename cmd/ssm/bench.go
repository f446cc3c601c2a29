package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"time"

	"ssmnet/cmd/internal/cli"
	"ssmnet/packet"
	"ssmnet/tunssm"
	"ssmnet/tunssm/bench"
)

// benchDialTimeout bounds the setting up of one stream: the session is there by then.
const benchDialTimeout = 5 * time.Second

func benchCommand() *cli.Command {
	return &cli.Command{
		Name: "bench", Usage: "measure throughput to a peer and back through the tunnel", ArgsUsage: "PEER",
		Description: cli.Describe("Policy must permit tcp/7601 to the peer, whose SSM serves it unless --bench=false. What is sent means "+
			"nothing; each direction lasts as long as --duration says, one after the other.",
			"ssm bench db-1", "ssm bench db-1 --duration 10s --streams 4 -o json"),
		Flags: []cli.Flag{cli.OutputFlag(),
			&cli.DurationFlag{Name: "duration", Usage: "`TIME` for each direction, at most 1m", Value: 5 * time.Second},
			&cli.IntFlag{Name: "streams", Usage: "`NUMBER` of TCP connections at once, at most 16", Value: 1},
			&cli.BoolFlag{Name: "ipv6", Aliases: []string{"6"}, Usage: "to the IPv6 address of the peer"}},
		Action: benchmark,
	}
}

// benchResult is the JSON.
type benchResult struct {
	Peer       string            `json:"peer"`
	Address    netip.Addr        `json:"address"`
	First      float64           `json:"first_us"` // of the first echo, which may have to acquire a session
	Median     float64           `json:"median_us,omitempty"`
	Directions []benchDirection  `json:"directions"`
	CPU        float64           `json:"cpu_seconds"` // of the SSM here, for both directions
	Drops      map[string]uint64 `json:"drops"`       // here meanwhile, by reason
}

type benchDirection struct {
	Direction string  `json:"direction"` // sent, received
	Streams   int     `json:"streams"`
	Seconds   float64 `json:"seconds"`
	Bytes     uint64  `json:"bytes"`
	Rate      float64 `json:"bits_per_second"`
}

// benchmark runs in this order: may we, how far is it, how much goes through.
func benchmark(c *cli.Context) error {
	args, err := cli.Args(c, 1, 1)
	if err != nil {
		return err
	}
	d, streams := c.Duration("duration"), c.Int("streams")
	switch {
	case d < time.Millisecond || d > bench.Longest:
		return cli.BadUsage(c, "--duration %s is out of bounds: 1ms to %s", d, bench.Longest)
	case streams < 1 || streams > bench.Streams:
		return cli.BadUsage(c, "--streams %d is out of bounds: 1 to %d", streams, bench.Streams)
	}
	r := benchResult{Peer: args[0]}
	if r.Address, err = permitted(c, r.Peer); err != nil {
		return err
	}
	echoed, err := echoes(c, r.Peer, 5)
	if err != nil {
		return err
	}
	r.First, r.Median = echoed.First, echoed.Median
	if err := r.measure(c, streams, d); err != nil {
		return err
	}
	if cli.WantsJSON(c) {
		return cli.JSON(c.App.Writer, "ssmnet.bench/v1", r)
	}
	if err := cli.PrintLine(c, "%s at %s: %s\n", r.Peer, r.Address, echoed.times()); err != nil {
		return err
	}
	return printTables(c, r.table(), r.cost())
}

// permitted asks whether the flow would arrive, and where: IPv4 where the peer has it and nothing else was asked for.
func permitted(c *cli.Context, peer string) (netip.Addr, error) {
	q := tunssm.Query{To: peer, Protocol: packet.TCP, Port: bench.Port, IPv6: c.Bool("ipv6")}
	tr, err := follow(c, q)
	if errors.Is(err, tunssm.ErrQuery) && !q.IPv6 {
		q.IPv6 = true
		tr, err = follow(c, q)
	}
	if err == nil {
		err = verdict(tr)
	}
	return tr.Dst, err
}

// measure fills in what goes through, and what that costs here.
func (r *benchResult) measure(c *cli.Context, streams int, d time.Duration) error {
	before, err := ownStatus(c)
	if err != nil {
		return err
	}
	show, done := cli.Progress(c.App.ErrWriter)
	show("%s: sending and receiving, %s in all", r.Peer, 2*d)
	sent, received, err := bench.Measure(c.Context, r.dial, streams, d)
	done()
	if err != nil {
		return r.explain(err)
	}
	after, err := ownStatus(c)
	if err != nil {
		return err
	}
	for _, one := range []struct {
		name string
		bench.Rate
	}{{"sent", sent}, {"received", received}} {
		r.Directions = append(r.Directions,
			benchDirection{one.name, streams, one.Took.Seconds(), one.Bytes, one.BitsPerSecond()})
	}
	r.CPU, r.Drops = after.CPU-before.CPU, map[string]uint64{}
	for reason, n := range after.Drops {
		if n > before.Drops[reason] {
			r.Drops[reason] = n - before.Drops[reason]
		}
	}
	return nil
}

func (r *benchResult) dial(ctx context.Context) (net.Conn, error) {
	d := net.Dialer{Timeout: benchDialTimeout}
	return d.DialContext(ctx, "tcp", netip.AddrPortFrom(r.Address, bench.Port).String())
}

// explain gives a measurement that failed its exit code, and says what to do.
func (r *benchResult) explain(err error) error {
	switch {
	case errors.Is(err, bench.ErrBusy):
		return cli.Errorf(cli.Conflict, "%s: %w", r.Peer, err)
	case errors.Is(err, syscall.ECONNREFUSED):
		return cli.Unreachablef("%s serves no bench: it runs with --bench=false, or is of another version", r.Peer)
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return cli.TimedOutf("%s did not keep up: %w; see 'ssm status', here and there", r.Peer, err)
	}
	return cli.Failedf("%s: %w", r.Peer, err)
}

func (r *benchResult) table() *cli.Table {
	t := cli.NewTable("DIRECTION", "STREAMS", "SECONDS", "BYTES", "RATE")
	for _, d := range r.Directions {
		t.Row(d.Direction, d.Streams, fmt.Sprintf("%.2f", d.Seconds), cli.Bytes(d.Bytes), fmt.Sprintf("%.3f Gbit/s", d.Rate/1e9))
	}
	return t
}

// cost is what the measurement came to here.
func (r *benchResult) cost() *cli.Table {
	t := cli.NewTable("processor time here", fmt.Sprintf("%.2fs", r.CPU))
	dropped := "none"
	if len(r.Drops) > 0 {
		dropped = ""
		for _, reason := range slices.Sorted(maps.Keys(r.Drops)) {
			dropped += fmt.Sprintf("%d %s, ", r.Drops[reason], reason)
		}
		dropped = dropped[:len(dropped)-len(", ")]
	}
	t.Row("dropped here", dropped)
	return t
}
