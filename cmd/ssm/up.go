package main

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"time"

	"ssmnet/cmd/internal/cli"
	"ssmnet/cmd/internal/daemon"
	"ssmnet/tunssm"
)

func upCommand(host systemd) *cli.Command {
	return &cli.Command{
		Name:  "up",
		Usage: "bring the interface up",
		Description: cli.Describe("Starts the SSM in the background (log DIR/"+logName+") and returns once a KDC has welcomed it. "+
			"If none has in time it exits with 3, and the SSM goes on trying. Where the interface cannot be set up, such as "+
			"where a network of this host is in the way, it exits with 1 at once, and no SSM is left running.",
			"ssm up", "ssm up --interface tun7 --timeout 30s"),
		Flags: append(settingsFlags(), cli.OutputFlag(),
			&cli.DurationFlag{Name: "timeout", Usage: "how `LONG` to wait for a KDC", Value: 15 * time.Second}),
		Before: cli.NoArgs,
		Action: func(c *cli.Context) error { return up(c, host) },
	}
}

// upResult is the JSON.
type upResult struct {
	Name      string       `json:"name"`
	Interface string       `json:"interface"`
	Addresses []netip.Addr `json:"addresses"`
	KDC       string       `json:"kdc,omitempty"` // the one that is asked first
	Ready     bool         `json:"ready"`
	Already   bool         `json:"already_up"`
}

func up(c *cli.Context, host systemd) error {
	if _, err := readSettings(c); err != nil {
		return err
	}
	limit := c.Duration("timeout")
	if limit <= 0 {
		return cli.BadUsage(c, "--timeout %s: want a duration, such as 15s", limit)
	}
	ctx, cancel := context.WithTimeout(c.Context, limit)
	defer cancel()
	st, err := runs(ctx, client(c))
	switch {
	case err == nil:
		return isUp(c, st, true)
	case !errors.Is(err, daemon.ErrNotRunning):
		return explain(c, err)
	case host.starts(c):
		return cli.Failedf("systemd runs the SSM of this host: start it with 'systemctl start %s'", service)
	}
	identity, err := loadIdentity(c)
	if err != nil {
		return err // rather than in the log of a child
	}
	identity.Destroy()
	child, err := startRun(c)
	if err != nil {
		return err
	}
	st, err = child.welcome(ctx, client(c))
	if errors.Is(err, context.DeadlineExceeded) {
		return cli.Unreachablef("not up after %s: %w; the SSM goes on trying: see '%s'", limit,
			cmp.Or(readiness(st), errYetToEnd), cli.CommandLine(c, "status"))
	}
	if errors.Is(err, errInterface) {
		return stopAgain(c, err)
	}
	if err != nil {
		return err
	}
	return isUp(c, st, false)
}

// stopAgain ends the SSM that was started in vain.
func stopAgain(c *cli.Context, why error) error {
	const hint = "%w; mend that, or override a conflict with --force"
	ctx, cancel := context.WithTimeout(c.Context, downTimeout)
	defer cancel()
	if err := stop(ctx, client(c)); err != nil && !errors.Is(err, daemon.ErrNotRunning) {
		return cli.Failedf(hint+" (and the SSM does not end: %w: see %s)", why, err, cli.In(c, logName))
	}
	return cli.Failedf(hint, why)
}

// isUp prints one line: name, interface, addresses, KDC.
func isUp(c *cli.Context, st tunssm.Status, already bool) error {
	kdc, _ := connected(st)
	if cli.WantsJSON(c) {
		return cli.JSON(c.App.Writer, "ssmnet.up/v1",
			upResult{st.Name, st.Interface, append([]netip.Addr{}, st.Addresses...), kdc, st.Ready, already})
	}
	how := "up"
	if already {
		how = "already up"
	}
	if st.Service != "" {
		how += " (systemctl status " + st.Service + ")"
	}
	if err := readiness(st); err != nil {
		return cli.PrintLine(c, "%s: %s on %s, not ready: %v", how, st.Name, st.Interface, err)
	}
	if kdc == "" {
		kdc = "none is connected"
	}
	return cli.PrintLine(c, "%s: %s on %s (%s), KDC %s", how, st.Name, st.Interface, cli.Joined(st.Addresses), kdc)
}
