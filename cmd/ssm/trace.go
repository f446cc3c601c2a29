package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"ssmnet/cmd/internal/cli"
	"ssmnet/packet"
	"ssmnet/tunssm"
	"ssmnet/tunssm/admin"
)

func traceCommand() *cli.Command {
	return &cli.Command{
		Name: "trace", Usage: "follow a flow step by step, and say what is in its way", ArgsUsage: "DST PROTO/PORT",
		Description: cli.Describe("DST is an address, or a peer's name, which stands for its overlay address. PROTO/PORT is as in a "+
			"policy: tcp/22, udp/53, icmp, proto/47. Route, peer, the KDC's decision, session, endpoint, MTU: nothing is sent, "+
			"and no session made. Exit codes: 0 reachable as far as is known, 4 denied, 5 nobody has DST, 3 no KDC answers or the "+
			"peer is not there, 1 this host sends it elsewhere.",
			"ssm trace db-1 tcp/5432", "ssm trace 10.20.3.4 icmp --from 10.9.0.7", "ssm trace db-1 udp/53 -6 -o json"),
		Flags: []cli.Flag{cli.OutputFlag(),
			&cli.StringFlag{Name: "from", Usage: "`ADDRESS` that the flow comes from, of a host in a subnet of this one (default: this host's)"},
			&cli.BoolFlag{Name: "ipv6", Aliases: []string{"6"}, Usage: "to the IPv6 address of a peer that is given by name"}},
		Action: trace,
	}
}

func trace(c *cli.Context) error {
	args, err := cli.Args(c, 2, 2)
	if err != nil {
		return err
	}
	q := tunssm.Query{To: args[0], IPv6: c.Bool("ipv6")}
	if q.Protocol, q.Port, err = parseService(args[1]); err != nil {
		return cli.BadUsage(c, "%s", err)
	}
	if from := c.String("from"); from != "" {
		if q.From, err = netip.ParseAddr(from); err != nil {
			return cli.BadUsage(c, "--from %s: want an address", from)
		}
	}
	tr, err := follow(c, q)
	if err != nil {
		return err
	}
	if cli.WantsJSON(c) {
		err = cli.JSON(c.App.Writer, "ssmnet.trace/v1", tr)
	} else {
		err = printTables(c, stepTable(tr))
	}
	if err != nil {
		return err
	}
	return verdict(tr)
}

// follow has the running SSM trace a flow.
func follow(c *cli.Context, q tunssm.Query) (tunssm.Trace, error) {
	return ask(c, func(ctx context.Context, s *admin.Client) (tunssm.Trace, error) { return s.Trace(ctx, q) })
}

// parseService reads PROTO/PORT as a policy writes it.
func parseService(s string) (packet.Protocol, uint16, error) {
	wrong := fmt.Errorf("%q: want tcp/PORT, udp/PORT, icmp or proto/NUMBER", s)
	if s == "icmp" {
		return packet.ICMP, 0, nil
	}
	name, number, _ := strings.Cut(s, "/")
	port, err := strconv.ParseUint(number, 10, 16)
	switch {
	case err != nil:
		return 0, 0, wrong
	case name == "tcp" && port > 0:
		return packet.TCP, uint16(port), nil
	case name == "udp" && port > 0:
		return packet.UDP, uint16(port), nil
	case name == "proto" && port > 0 && port < 256 && !packet.Protocol(port).HasPorts():
		return packet.Protocol(port), 0, nil
	}
	return 0, 0, wrong
}

func stepTable(tr tunssm.Trace) *cli.Table {
	t := cli.NewTable("STEP", "STATE", "FINDING")
	for _, s := range tr.Steps {
		state := string(s.State)
		if s.State == tunssm.Moot {
			state = ""
		}
		t.Row(s.Name, state, s.Finding)
	}
	return t
}

// verdict is nil for a flow that would arrive; otherwise what is in its way, what to do about it, and the exit code.
func verdict(tr tunssm.Trace) error {
	codes := map[tunssm.Outcome]int{
		tunssm.Nowhere: cli.NotFound, tunssm.Prohibited: cli.Denied, tunssm.Unavailable: cli.Unreachable, tunssm.Misrouted: cli.Failed,
	}
	code, bad := codes[tr.Outcome]
	if !bad {
		return nil
	}
	s := deciding(tr)
	if s.Advice == "" {
		return cli.Errorf(code, "%s %s: %s", tr.To, tr.Service, s.Finding)
	}
	return cli.Errorf(code, "%s %s: %s; %s", tr.To, tr.Service, s.Finding, s.Advice)
}

// deciding is the step that the outcome comes of: the first fault, but for a denial, of which a missing route is no more
// than a consequence.
func deciding(tr tunssm.Trace) (s tunssm.Step) {
	of := map[tunssm.Outcome]string{tunssm.Prohibited: "decision", tunssm.Nowhere: "peer"}[tr.Outcome]
	at := slices.IndexFunc(tr.Steps, func(s tunssm.Step) bool {
		return s.State == tunssm.Fault && (of == "" || s.Name == of)
	})
	if at >= 0 {
		s = tr.Steps[at]
	}
	return s
}
