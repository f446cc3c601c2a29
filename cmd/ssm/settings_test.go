package main

import (
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ssmnet/cmd/internal/cli"
)

// settle runs a command line of a program whose only command reads settings, and gives them and what up would pass on.
func settle(t *testing.T, dir string, args ...string) (s settings, passed []string) {
	t.Helper()
	app := cli.New("ssm", "", "SSMNET_TEST_DIR", dir, &cli.Command{Name: "run", Flags: settingsFlags(),
		Action: func(c *cli.Context) (err error) {
			if s, err = readSettings(c); err != nil {
				return err
			}
			passed, err = sameSettings(c)
			return err
		}})
	var out, errs strings.Builder
	if code := cli.Run(app, append([]string{"ssm", "run"}, args...), strings.NewReader(""), &out, &errs); code != cli.Done {
		t.Fatalf("exit code %d: %s", code, errs.String())
	}
	return s, passed
}

// TestSettings: a flag that was typed, else the file, else the default; even where what was typed is the default.
func TestSettings(t *testing.T) {
	const file = "interface = \"wire\"\nlisten = 7701\nendpoint = \"192.0.2.9:7701\"\nmtu = 1300\n" +
		"accept_routes = false\nforce = true\nmasquerade = true\nlog_level = \"debug\"\n"
	all := settings{Interface: "wire", Listen: 7701, Endpoint: "192.0.2.9:7701", MTU: 1300, Force: true, Masquerade: true,
		LogLevel: "debug", level: slog.LevelDebug, named: true}
	plain := defaults()
	named, some := plain, plain
	named.named = true
	some.Listen = 7702
	tests := []struct {
		name, file string
		args       []string
		want       settings
	}{
		{"nothing", "", nil, plain},
		{"file", file, nil, all},
		{"part of a file", "listen = 7702", nil, some},
		{"flags", "", []string{"--interface", "wire", "--listen=7701", "--endpoint", "192.0.2.9:7701", "--mtu", "1300",
			"--accept-routes=false", "--force", "--masquerade", "--log-level", "debug"}, all},
		{"flags above the file", file, []string{"--interface", "tun0", "--listen", "7601", "--endpoint", "", "--mtu", "0",
			"--accept-routes", "--force=false", "--masquerade=false", "--log-level", "info"}, named},
		{"one flag above part of a file", "listen = 7703\nmtu = 1400", []string{"--listen", "7702", "--mtu", "0"}, some},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if tt.file != "" {
				if err := os.WriteFile(filepath.Join(dir, configName), []byte(tt.file), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got, passed := settle(t, dir, tt.args...)
			if got != tt.want {
				t.Errorf("settings %+v, want %+v", got, tt.want)
			}
			if again, _ := settle(t, dir, passed...); again != got {
				t.Errorf("%q gives %+v, want %+v", passed, again, got)
			}
		})
	}
}

// TestSameSettings: what was typed and nothing else, with a file's path that holds from elsewhere.
func TestSameSettings(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile("mine.toml", []byte("listen = 7701"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, got := settle(t, t.TempDir(), "--force", "--config", "mine.toml", "--interface", "wire")
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"--interface=wire", "--force=true", "--config=" + filepath.Join(here, "mine.toml")}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestEndpoint(t *testing.T) {
	tests := []struct {
		text string
		want netip.AddrPort
	}{
		{"", netip.AddrPort{}},
		{"192.0.2.1:7601", netip.MustParseAddrPort("192.0.2.1:7601")},
		{"[2001:db8::1]:7602", netip.MustParseAddrPort("[2001:db8::1]:7602")},
		{"[::ffff:192.0.2.1]:7601", netip.MustParseAddrPort("192.0.2.1:7601")},
	}
	for _, tt := range tests {
		s := settings{Endpoint: tt.text}
		if got, err := s.endpoint(t.Context()); got != tt.want || err != nil {
			t.Errorf("endpoint %q is %v, %v; want %v", tt.text, got, err, tt.want)
		}
	}
}

// TestDefaultMTU: towards loopback there is room for more than Ethernet has; what cannot be found out counts as Ethernet.
func TestDefaultMTU(t *testing.T) {
	tests := []struct {
		kdcs []string
		want func(mtu int) bool
	}{
		{nil, func(mtu int) bool { return mtu == 1420 }},
		{[]string{"no address"}, func(mtu int) bool { return mtu == 1420 }},
		{[]string{"127.0.0.1:7600"}, func(mtu int) bool { return mtu > 1420 && mtu <= maxMTU }},
		{[]string{"no address", "127.0.0.1:7600"}, func(mtu int) bool { return mtu > 1420 && mtu <= maxMTU }},
	}
	for _, tt := range tests {
		if got := defaultMTU(t.Context(), tt.kdcs); !tt.want(got) {
			t.Errorf("defaultMTU(%q) is %d", tt.kdcs, got)
		}
	}
}
