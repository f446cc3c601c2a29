package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"ssmnet/cmd/internal/cli"
	"ssmnet/packet/control"
	"ssmnet/tunssm/route"
)

// settings are how the SSM runs: from DIR/ssm.toml (or --config FILE) where there is one, flags above it.
type settings struct {
	Interface    string `toml:"interface"`
	Listen       int    `toml:"listen"`
	Endpoint     string `toml:"endpoint"`
	MTU          int    `toml:"mtu"`
	AcceptRoutes bool   `toml:"accept_routes"`
	Force        bool   `toml:"force"`
	LogLevel     string `toml:"log_level"`
}

const maxMTU = 65535 - 80

// settingsFlags are those of up and run alike.
func settingsFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "interface", Usage: "`NAME` of the TUN interface", Value: "tun0"},
		&cli.IntFlag{Name: "listen", Usage: "UDP `PORT` for frames", Value: control.DefaultFramePort},
		&cli.StringFlag{Name: "endpoint", Usage: "`HOST:PORT` by which peers reach this host from outside, such as a forwarded port"},
		&cli.IntFlag{Name: "mtu", Usage: "MTU of the interface in `BYTES` (default: the underlay's minus 80)"},
		&cli.BoolFlag{Name: "accept-routes", Usage: "install the routes that the KDC offers", Value: true},
		&cli.BoolFlag{Name: "force", Usage: "install routes also where they overlap the host's own networks"},
		&cli.StringFlag{Name: "config", Usage: "configuration `FILE` (default DIR/" + configName + ", if there is one)"},
		&cli.StringFlag{Name: "log-level", Usage: "`debug|info|warn|error`", Value: "info"},
	}
}

// readSettings merges the file and the flags, and checks the result.
func readSettings(c *cli.Context) (settings, error) {
	s := settings{
		Interface: c.String("interface"), Listen: c.Int("listen"), Endpoint: c.String("endpoint"), MTU: c.Int("mtu"),
		AcceptRoutes: c.Bool("accept-routes"), Force: c.Bool("force"), LogLevel: c.String("log-level"),
	}
	typed := s
	if err := s.readFile(c); err != nil {
		return s, err
	}
	for flag, restore := range map[string]func(){
		"interface": func() { s.Interface = typed.Interface }, "listen": func() { s.Listen = typed.Listen },
		"endpoint": func() { s.Endpoint = typed.Endpoint }, "mtu": func() { s.MTU = typed.MTU },
		"accept-routes": func() { s.AcceptRoutes = typed.AcceptRoutes }, "force": func() { s.Force = typed.Force },
		"log-level": func() { s.LogLevel = typed.LogLevel },
	} {
		if c.IsSet(flag) {
			restore()
		}
	}
	return s, s.check(c)
}

func (s *settings) readFile(c *cli.Context) error {
	path, optional := c.String("config"), false
	if path == "" {
		path, optional = in(c, configName), true
	}
	f, err := os.Open(path)
	if optional && errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return cli.Failedf("cannot read the configuration: %w", err)
	}
	defer f.Close()
	err = toml.NewDecoder(f).DisallowUnknownFields().Decode(s)
	var at *toml.DecodeError
	var strict *toml.StrictMissingError
	switch {
	case errors.As(err, &strict) && len(strict.Errors) > 0:
		line, column := strict.Errors[0].Position()
		return cli.Failedf("%s:%d:%d: no such setting %q", path, line, column, strings.Join(strict.Errors[0].Key(), "."))
	case errors.As(err, &at):
		line, column := at.Position()
		return cli.Failedf("%s:%d:%d: %w", path, line, column, err)
	case err != nil:
		return cli.Failedf("%s: %w", path, err)
	}
	return nil
}

func (s *settings) check(c *cli.Context) error {
	switch {
	case s.Interface == "" || len(s.Interface) > 15 || strings.ContainsAny(s.Interface, "/ %"):
		return cli.BadUsage(c, "--interface %q is not an interface name of at most 15 characters", s.Interface)
	case s.Listen < 1 || s.Listen > 65535:
		return cli.BadUsage(c, "--listen %d is not a port", s.Listen)
	case s.MTU != 0 && (s.MTU < route.MinMTU || s.MTU > maxMTU):
		return cli.BadUsage(c, "--mtu %d is out of bounds: %d to %d", s.MTU, route.MinMTU, maxMTU)
	}
	if s.Endpoint != "" {
		if err := control.CheckAddress(s.Endpoint); err != nil {
			return cli.BadUsage(c, "--endpoint: %v", err)
		}
	}
	return nil
}

// endpoint resolves the configured endpoint; none is the zero value.
func (s *settings) endpoint(ctx context.Context) (netip.AddrPort, error) {
	if s.Endpoint == "" {
		return netip.AddrPort{}, nil
	}
	host, port, err := net.SplitHostPort(s.Endpoint)
	if err != nil {
		return netip.AddrPort{}, err
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil || len(addrs) == 0 {
		return netip.AddrPort{}, cli.Failedf("--endpoint %s does not resolve: %v", s.Endpoint, err)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("--endpoint %s: %w", s.Endpoint, err)
	}
	return netip.AddrPortFrom(addrs[0].Unmap(), uint16(n)), nil
}

// args is the command line that gives run the same settings as up got.
func (s *settings) args(c *cli.Context) []string {
	args := []string{
		"--interface", s.Interface, "--listen", strconv.Itoa(s.Listen), "--mtu", strconv.Itoa(s.MTU),
		"--accept-routes=" + strconv.FormatBool(s.AcceptRoutes), "--force=" + strconv.FormatBool(s.Force),
		"--log-level", s.LogLevel,
	}
	if s.Endpoint != "" {
		args = append(args, "--endpoint", s.Endpoint)
	}
	return args
}
