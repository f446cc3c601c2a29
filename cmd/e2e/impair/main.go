// Impair runs an impairment relay (package relay) between two interfaces of its network namespace, and changes what a
// running one does. It is for tests and scripts, and never released.
//
//	ip netns exec PREFIXrh1 impair run --between host,bridge --control relay.sock --seed 1 --loss 0.3
//	impair set --control relay.sock --way forward --delay 20ms --jitter 5ms --only udp/7601
//	impair show --control relay.sock
//
// run prints "ready" once frames pass, and ends with SIGTERM or SIGINT. set replaces all settings of the way: without
// any, it does nothing more. show prints settings and counters as JSON.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"ssmnet/cmd/e2e/relay"
	"ssmnet/cmd/internal/daemon"
)

const usage = "usage: impair run --between LEFT,RIGHT --control SOCKET | set --control SOCKET | " +
	"show --control SOCKET (impair VERB --help lists the flags)"

var errUsage = errors.New(usage)

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	err := impair(ctx, os.Args[1:])
	cancel()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errUsage), errors.Is(err, relay.ErrSettings):
		fmt.Fprintln(os.Stderr, "impair:", err)
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "impair:", err)
		os.Exit(1)
	}
}

// command is what was typed.
type command struct {
	between, control string
	seed             uint64
	way              string
	settings         relay.Settings
}

func impair(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errUsage
	}
	verbs := map[string]func(context.Context, command) error{"run": run, "set": set, "show": show}
	verb, known := verbs[args[0]]
	if !known {
		return fmt.Errorf("no verb %q: %w", args[0], errUsage)
	}
	var c command
	flags := c.flags(args[0])
	if err := flags.Parse(args[1:]); errors.Is(err, flag.ErrHelp) {
		return err
	} else if err != nil || flags.NArg() > 0 || c.control == "" {
		return errors.Join(err, errUsage)
	}
	return verb(ctx, c)
}

// flags are those of a verb.
func (c *command) flags(verb string) *flag.FlagSet {
	f := flag.NewFlagSet("impair "+verb, flag.ContinueOnError)
	f.StringVar(&c.control, "control", "", "unix `SOCKET` of the relay")
	if verb == "show" {
		return f
	}
	f.StringVar(&c.way, "way", string(relay.Both), "forward (left to right), backward or both")
	if verb == "run" {
		f.StringVar(&c.between, "between", "", "the two interfaces, `LEFT,RIGHT`")
		f.Uint64Var(&c.seed, "seed", 1, "of all dice")
	}
	s := &c.settings
	f.TextVar(&s.Only, "only", relay.Class{}, "all, tcp, udp, icmp, icmp6, tcp/PORT or udp/PORT; others pass untouched")
	f.Float64Var(&s.Loss, "loss", 0, "probability of loss")
	f.Float64Var(&s.Duplicate, "duplicate", 0, "probability of a second copy")
	f.Float64Var(&s.Reorder, "reorder", 0, "probability that a copy is held back")
	f.DurationVar(&s.ReorderBy, "reorder-by", 5*time.Millisecond, "how long it is")
	f.Float64Var(&s.Corrupt, "corrupt", 0, "probability that a byte of the payload changes")
	f.BoolVar(&s.Mend, "mend", false, "make TCP and UDP checksums right after corruption")
	f.DurationVar(&s.Delay, "delay", 0, "one-way delay")
	f.DurationVar(&s.Jitter, "jitter", 0, "delay varies by so much, up and down")
	f.Float64Var(&s.Rate, "rate", 0, "bits per second; 0: no limit")
	f.IntVar(&s.Queue, "queue", 0, "bytes that may wait before the rate; 0: 65536")
	f.BoolVar(&s.Blackout, "blackout", false, "drop all")
	return f
}

func run(ctx context.Context, c command) (err error) {
	left, right, two := strings.Cut(c.between, ",")
	if !two {
		return errUsage
	}
	r, err := relay.Start(left, right, c.seed)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if err := r.Set(relay.Way(c.way), c.settings); err != nil {
		return err
	}
	socket, err := daemon.ListenUnix(c.control)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: relay.Handler(r), ReadHeaderTimeout: 5 * time.Second}
	defer server.Close()
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(socket) }()
	fmt.Println("ready")
	select {
	case <-ctx.Done():
	case <-r.Done():
	case err = <-failed:
	}
	return err
}

func set(ctx context.Context, c command) error {
	if err := c.settings.Check(); err != nil {
		return err
	}
	return relay.NewClient(c.control).Set(ctx, relay.Way(c.way), c.settings)
}

func show(ctx context.Context, c command) error {
	status, err := relay.NewClient(c.control).Status(ctx)
	if err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	out.SetIndent("", "  ")
	return out.Encode(status)
}
