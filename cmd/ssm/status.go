package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"ssmnet/cmd/internal/cli"
	"ssmnet/tunssm"
)

func statusCommand() *cli.Command {
	return &cli.Command{
		Name:  "status",
		Usage: "show the running SSM: interface, KDCs, routes, drops, sessions",
		Description: cli.Describe("--check prints nothing more than it must: live fails (exit 3) where no SSM runs, ready also where no "+
			"KDC has welcomed it.\n\n"+
			"The SSM's socket also has metrics (Prometheus) and profiles ('go tool pprof'):\n\n"+
			"  curl --unix-socket DIR/"+socketName+" http://ssm/metrics\n"+
			"  curl --unix-socket DIR/"+socketName+" 'http://ssm/debug/pprof/profile?seconds=10' >cpu.pprof",
			"ssm status", "ssm status --check ready"),
		Flags: []cli.Flag{cli.OutputFlag(),
			&cli.StringFlag{Name: "check", Usage: "exit code only: `live|ready`"}},
		Before: cli.NoArgs,
		Action: status,
	}
}

func status(c *cli.Context) error {
	check := c.String("check")
	if check != "" && check != "live" && check != "ready" {
		return cli.BadUsage(c, "--check %s: want live or ready", check)
	}
	st, err := ownStatus(c)
	switch {
	case err != nil || check == "live":
		return err
	case check == "ready":
		if err := readiness(st); err != nil {
			return cli.Unreachablef("not ready: %w", err)
		}
		if _, ok := connected(st); !ok {
			return cli.Unreachablef("not ready: no KDC is connected")
		}
		return nil
	case cli.WantsJSON(c):
		return cli.JSON(c.App.Writer, "ssmnet.status/v1", st)
	}
	return printTables(c, overview(st), kdcTable(st), routeTable(st), gatewayTable(st), sessionTable(st.Sessions), dropTable(st))
}

// printTables writes those that have rows, with an empty line between them.
func printTables(c *cli.Context, tables ...*cli.Table) error {
	tables = slices.DeleteFunc(tables, func(t *cli.Table) bool { return t.Len() == 0 })
	for i, t := range tables {
		if i > 0 {
			if err := cli.PrintLine(c, ""); err != nil {
				return err
			}
		}
		if err := t.Write(c.App.Writer); err != nil {
			return err
		}
	}
	return nil
}

func overview(st tunssm.Status) *cli.Table {
	t := cli.NewTable("name", st.Name)
	ready := "yes"
	if err := readiness(st); err != nil {
		ready = "no: " + err.Error()
	}
	t.Row("ready", ready)
	t.Row("interface", fmt.Sprintf("%s, MTU %d", st.Interface, st.MTU))
	t.Row("addresses", cli.Joined(st.Addresses))
	if len(st.Subnets) > 0 {
		t.Row("subnets", someOf(st.Subnets))
	}
	t.Row("port", st.Port)
	t.Row("traffic", fmt.Sprintf("%s received, %s sent", cli.Bytes(st.Rx.Bytes), cli.Bytes(st.Tx.Bytes)))
	if o := st.Outbound; o.Batches > 0 {
		t.Row("outbound", fmt.Sprintf("%d batches of %s frames, %s a send",
			o.Batches, average(o.Frames, o.Batches), average(o.Frames, o.Sends)))
	}
	if i := st.Inbound; i.Batches > 0 {
		t.Row("inbound", fmt.Sprintf("%d batches of %s frames, %s a receive; %s packets a write",
			i.Batches, average(i.Frames, i.Batches), average(i.Frames, i.Receives), average(i.Packets, i.Writes)))
	}
	if st.Held > 0 {
		t.Row("held", cli.Bytes(uint64(st.Held))+" wait for a session")
	}
	t.Row("uptime", cli.Age(seconds(st.Uptime)))
	t.Row("as of", st.AsOf)
	return t
}

// average is n shared out among so many.
func average(n, of uint64) string { return fmt.Sprintf("%.1f", float64(n)/float64(max(of, 1))) }

// someOf lists the first values in one cell, and says how many more there are: JSON has them all.
func someOf[T any](values []T) string {
	const most = 8
	if len(values) <= most {
		return cli.Joined(values)
	}
	return fmt.Sprintf("%s … and %d more", cli.Joined(values[:most]), len(values)-most)
}

// silentAfter is how long a KDC may take to answer a ping before that is worth a word.
const silentAfter = 2 * time.Second

func kdcTable(st tunssm.Status) *cli.Table {
	t := cli.NewTable("KDC", "STATE", "FOR")
	for _, k := range st.KDCs {
		state := "connected"
		switch {
		case !k.Connected:
			state = "not connected: " + plainFault(k)
		case k.Detached:
			state = "detached from its store"
		case k.Silent >= silentAfter.Seconds():
			state = "connected, silent for " + cli.Age(seconds(k.Silent))
		}
		t.Row(k.Address, state, cli.Age(seconds(k.For)))
	}
	return t
}

func routeTable(st tunssm.Status) *cli.Table {
	t := cli.NewTable("ROUTE", "PEER", "STATE")
	for _, r := range st.Routes {
		state := r.State
		if state == "refused" {
			state += ": " + r.Refused
		}
		t.Row(r.Prefix, r.Peer, state)
	}
	return t
}

func sessionTable(sessions []tunssm.SessionStatus) *cli.Table {
	t := cli.NewTable("PEER", "ENDPOINT", "MTU", "SUITE", "STATE", "AGE", "REKEY IN", "RX", "TX", "LAST FRAME")
	for _, s := range sessions {
		endpoint := ""
		if s.Endpoint.IsValid() {
			endpoint = s.Endpoint.String()
		}
		rekey := ""
		if s.State != "superseded" && s.State != "closing" {
			rekey = cli.Age(seconds(s.RekeyIn))
		}
		mtu := fmt.Sprint(s.MTU)
		if s.Fragments {
			mtu += " in fragments"
		}
		t.Row(s.Peer, endpoint, mtu, s.Suite, s.State, cli.Age(seconds(s.Age)), rekey, cli.Bytes(s.Rx.Bytes), cli.Bytes(s.Tx.Bytes),
			ago(s.Heard))
	}
	return t
}

func seconds(f float64) time.Duration { return time.Duration(f * float64(time.Second)) }

func ago(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return cli.Age(time.Since(t)) + " ago"
}

func gatewayTable(st tunssm.Status) *cli.Table {
	t := cli.NewTable("SUBNET", "INTERFACE", "STATE")
	for _, s := range st.Gateway {
		state := s.State
		if s.Fault != "" {
			state += ": " + s.Fault
		}
		for _, w := range s.Warnings {
			state += "; " + w
		}
		t.Row(s.Prefix, strings.Join(s.Interfaces, ", "), state)
	}
	return t
}
