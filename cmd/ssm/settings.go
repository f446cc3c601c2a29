package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"ssmnet/cmd/internal/cli"
	"ssmnet/packet"
	"ssmnet/packet/control"
	"ssmnet/tunssm/host"
)

// settings are how the SSM runs: from DIR/ssm.toml (or --config FILE) where there is one, flags above it. A setting is
// named alike in both, but for "_" in the file and "-" in the flag.
type settings struct {
	Interface    string `toml:"interface"`
	Listen       int    `toml:"listen"`
	Endpoint     string `toml:"endpoint"`
	MTU          int    `toml:"mtu"` // 0: the underlay's less overhead
	AcceptRoutes bool   `toml:"accept_routes"`
	Force        bool   `toml:"force"`
	Bench        bool   `toml:"bench"`
	Masquerade   bool   `toml:"masquerade"`
	Queues       int    `toml:"queues"`
	LogLevel     string `toml:"log_level"`

	level slog.Level // of LogLevel
	named bool       // the interface was: one of that name that is there to stay is meant
}

func defaults() settings {
	return settings{Interface: "tun0", Listen: control.DefaultFramePort, AcceptRoutes: true, Bench: true, Queues: 1, LogLevel: "info"}
}

// settingsFlags are those of up and run alike.
func settingsFlags() []cli.Flag {
	d := defaults()
	return []cli.Flag{
		&cli.StringFlag{Name: "interface", Usage: "`NAME` of the TUN interface; where 'ip tuntap' has made one it is used, and put back", Value: d.Interface},
		&cli.IntFlag{Name: "listen", Usage: "UDP `PORT` for frames", Value: d.Listen},
		&cli.StringFlag{Name: "endpoint", Usage: "`HOST:PORT` by which peers reach this host from outside, such as a forwarded port"},
		&cli.IntFlag{Name: "mtu", Usage: "MTU of the interface in `BYTES` (default: the underlay's minus 80)"},
		&cli.BoolFlag{Name: "accept-routes", Usage: "install the routes that the KDC offers", Value: d.AcceptRoutes},
		&cli.BoolFlag{Name: "force", Usage: "install routes also where they overlap the host's own networks"},
		&cli.BoolFlag{Name: "bench", Usage: "serve 'ssm bench' to peers that policy permits tcp/7601", Value: d.Bench},
		&cli.BoolFlag{Name: "masquerade", Usage: "let the hosts of this host's subnets see peers under its own address, by nftables: for subnets without a route back"},
		&cli.IntFlag{Name: "queues", Usage: "`NUMBER` of queues of the interface, for more cores than two: each carries flows of its own", Value: d.Queues},
		&cli.StringFlag{Name: "config", Usage: "configuration `FILE` (default DIR/" + configName + ", if there is one)"},
		&cli.StringFlag{Name: "log-level", Usage: "`debug|info|warn|error`", Value: d.LogLevel},
	}
}

// configPath is the file of the settings, which need not exist where none is named.
func configPath(c *cli.Context) string {
	return cmp.Or(c.String("config"), cli.In(c, configName))
}

// readSettings merges the file and the flags, and checks the result.
func readSettings(c *cli.Context) (settings, error) {
	s := defaults()
	s.Interface = ""
	file, err := readTOML(configPath(c))
	switch {
	case err == nil:
		err = file.decode(&s)
	case !c.IsSet("config") && errors.Is(err, fs.ErrNotExist):
		err = nil
	default:
		err = cli.Failedf("cannot read the configuration: %w", err)
	}
	if err != nil {
		return s, err
	}
	typed(c, "interface", &s.Interface)
	typed(c, "listen", &s.Listen)
	typed(c, "endpoint", &s.Endpoint)
	typed(c, "mtu", &s.MTU)
	typed(c, "accept-routes", &s.AcceptRoutes)
	typed(c, "force", &s.Force)
	typed(c, "bench", &s.Bench)
	typed(c, "masquerade", &s.Masquerade)
	typed(c, "queues", &s.Queues)
	typed(c, "log-level", &s.LogLevel)
	if s.named = s.Interface != ""; !s.named && !c.IsSet("interface") {
		s.Interface = defaults().Interface
	}
	return s, s.check(c, file)
}

// typed takes the value of a flag that the user gave.
func typed[T any](c *cli.Context, flag string, setting *T) {
	if c.IsSet(flag) {
		*setting = c.Value(flag).(T)
	}
}

var interfaceName = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9._-]{0,14}$`)

// check says what is wrong with a setting where it was made: on the command line or in the file.
func (s *settings) check(c *cli.Context, file tomlFile) error {
	noLevel := s.level.UnmarshalText([]byte(s.LogLevel))
	for _, f := range []struct {
		flag  string
		value any
		right bool
		want  string
	}{
		{"interface", s.Interface, interfaceName.MatchString(s.Interface), "1 to 15 letters, digits, '.', '_' or '-'"},
		{"listen", s.Listen, s.Listen >= 1 && s.Listen <= 65535, "a UDP port, 1 to 65535"},
		{"endpoint", s.Endpoint, s.Endpoint == "" || control.CheckAddress(s.Endpoint) == nil, "HOST:PORT, and not link-local"},
		{"mtu", s.MTU, s.MTU == 0 || s.MTU >= host.MinMTU && s.MTU <= host.MaxMTU, fmt.Sprintf("%d to %d", host.MinMTU, host.MaxMTU)},
		{"queues", s.Queues, s.Queues >= 1 && s.Queues <= packet.MaxLanes, fmt.Sprintf("1 to %d", packet.MaxLanes)},
		{"log-level", s.LogLevel, noLevel == nil, "debug, info, warn or error"},
	} {
		switch {
		case f.right:
		case c.IsSet(f.flag):
			return cli.BadUsage(c, "--%s %v: want %s", f.flag, f.value, f.want)
		default:
			setting := strings.ReplaceAll(f.flag, "-", "_")
			return file.wrong(setting, 0, fmt.Errorf("%s = %v: want %s", setting, f.value, f.want))
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
	if err != nil {
		return netip.AddrPort{}, cli.Failedf("endpoint %s does not resolve: %v", s.Endpoint, err)
	}
	addrs = slices.DeleteFunc(addrs, netip.Addr.IsLinkLocalUnicast)
	if len(addrs) == 0 {
		return netip.AddrPort{}, cli.Failedf("endpoint %s has no address that others reach", s.Endpoint)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("endpoint %s: %w", s.Endpoint, err)
	}
	return netip.AddrPortFrom(addrs[0].Unmap(), uint16(n)), nil
}

// sameSettings is the command line that gives run the settings which up was given. run works elsewhere, so that the path
// of a file becomes absolute.
func sameSettings(c *cli.Context) (args []string, err error) {
	for _, f := range settingsFlags() {
		name := f.Names()[0]
		if !c.IsSet(name) {
			continue
		}
		value := c.Value(name)
		if name == "config" {
			if value, err = filepath.Abs(c.String(name)); err != nil {
				return nil, err
			}
		}
		args = append(args, fmt.Sprintf("--%s=%v", name, value))
	}
	return args, nil
}
