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
	"ssmnet/tunssm/host"
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
		"accept_routes = false\nforce = true\nbench = false\nmasquerade = true\nqueues = 4\nlog_level = \"debug\"\n"
	all := settings{Interface: "wire", Listen: 7701, Endpoint: "192.0.2.9:7701", MTU: 1300, Force: true, Masquerade: true,
		Queues: 4, LogLevel: "debug", level: slog.LevelDebug, named: true}
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
			"--accept-routes=false", "--force", "--bench=false", "--masquerade", "--queues", "4", "--log-level", "debug"}, all},
		{"flags above the file", file, []string{"--interface", "tun0", "--listen", "7601", "--endpoint", "", "--mtu", "0",
			"--accept-routes", "--force=false", "--bench", "--masquerade=false", "--queues", "1", "--log-level", "info"}, named},
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

// FuzzSettings: a configuration is taken with every setting in its range, or refused in one line.
func FuzzSettings(f *testing.F) {
	f.Add("interface = \"wire\"\nlisten = 7701\nendpoint = \"192.0.2.9:7701\"\nmtu = 1300\n" +
		"accept_routes = false\nforce = true\nlog_level = \"debug\"\n")
	for _, text := range []string{"", "listen = 0", "mtu = 1e9", "log_level = 'loud'", "interface = \"a/b\"", "[x]\ny=1",
		"listen = 1979-05-27", "interface = \"\"\"\na\"\"\"", "endpoint = '\x00:1'", "listen = [[1], [2]", "force.x = 1"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(t.TempDir(), configName)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var s settings
		app := cli.New("ssm", "", "SSMNET_TEST_DIR", t.TempDir(), &cli.Command{Name: "run", Flags: settingsFlags(),
			Action: func(c *cli.Context) (err error) { s, err = readSettings(c); return err }})
		var out, errs strings.Builder
		code := cli.Run(app, []string{"ssm", "run", "--config", path}, strings.NewReader(""), &out, &errs)
		switch said := errs.String(); {
		case code == cli.Failed:
			if strings.Count(said, "\n") != 1 || !strings.Contains(said, path) {
				t.Errorf("%q is refused with %q", text, said)
			}
		case code != cli.Done || said != "":
			t.Errorf("%q: exit code %d, %q", text, code, said)
		case !interfaceName.MatchString(s.Interface) || s.Listen < 1 || s.Listen > 65535 || s.MTU < 0 || s.MTU > host.MaxMTU:
			t.Errorf("%q becomes %+v", text, s)
		}
	})
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
