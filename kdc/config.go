package kdc

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"ssmnet/packet/control"
)

// Names in the state directory.
const (
	configFile = "kdc.toml"
	storeFile  = "store.db"
	keyFile    = "store.key"
	auditFile  = "audit.log"
)

const (
	maxConfig    = 1 << 20 // bytes of kdc.toml
	maxOverlays  = 8
	storeBolt    = "bolt"
	defaultGrace = time.Minute
)

// Config is kdc.toml:
//
//	listen    = [":7600"]                         # TCP addresses to serve
//	addresses = ["203.0.113.5:7600"]              # what SSMs are told to dial, one for each KDC
//	overlays  = ["100.80.0.0/12", "fd5e::/48"]    # out of which peers are given addresses
//	store     = "bolt"
//	grace     = "1m"                              # how long a KDC cut off from its store goes on issuing
//	log_level = "info"                            # debug, info, warn or error
type Config struct {
	Listen    []string
	Addresses []string
	Overlays  []netip.Prefix
	Store     string
	Grace     time.Duration
	LogLevel  slog.Level
}

// tomlFile is the file; its types refuse what they do not understand, so that the error has line and column.
type tomlFile struct {
	Listen    []listenText  `toml:"listen"`
	Addresses []addressText `toml:"addresses"`
	Overlays  []overlayText `toml:"overlays"`
	Store     storeText     `toml:"store"`
	Grace     graceText     `toml:"grace"`
	LogLevel  levelText     `toml:"log_level"`
}

// They are structs because the decoder passes strings by UnmarshalText.
type (
	listenText  struct{ text string }
	addressText struct{ text string }
	overlayText struct{ netip.Prefix }
	storeText   struct{ text string }
	graceText   struct{ time.Duration }
	levelText   struct{ slog.Level }
)

func (l *listenText) UnmarshalText(b []byte) error {
	_, port, err := net.SplitHostPort(string(b))
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil || !plain(b) {
		return fmt.Errorf("%q is not [HOST]:PORT", b)
	}
	l.text = string(b)
	return nil
}

func (a *addressText) UnmarshalText(b []byte) error {
	if a.text = string(b); !plain(b) {
		return fmt.Errorf("address %q has characters that no address has", b)
	}
	return control.CheckAddress(a.text)
}

// plain says that b has none but visible ASCII characters, and none that a string in the file would escape.
func plain(b []byte) bool {
	return !bytes.ContainsFunc(b, func(r rune) bool { return r <= ' ' || r > '~' || r == '"' || r == '\\' })
}

func (o *overlayText) UnmarshalText(b []byte) error {
	p, err := netip.ParsePrefix(string(b))
	if err != nil {
		return fmt.Errorf("%q is not a prefix", b)
	}
	o.Prefix = p
	return checkOverlay(p)
}

// checkOverlay refuses what could not hold two peers, or is no prefix in canonical form.
func checkOverlay(p netip.Prefix) error {
	most := 30
	if p.Addr().Is6() {
		most = 126
	}
	switch {
	case p.Addr().Is4In6() || p != p.Masked():
		return fmt.Errorf("overlay %s has bits set after its length: write %s", p, p.Masked())
	case p.Bits() > most || p.Bits() < 8:
		return fmt.Errorf("overlay %s: its length must be 8 to %d", p, most)
	}
	return nil
}

func (s *storeText) UnmarshalText(b []byte) error {
	if string(b) != storeBolt {
		return fmt.Errorf("store %q is not known: write %q", b, storeBolt)
	}
	s.text = string(b)
	return nil
}

func (g *graceText) UnmarshalText(b []byte) error {
	d, err := time.ParseDuration(string(b))
	if err != nil || d < time.Second || d > 24*time.Hour {
		return fmt.Errorf("grace %q is not a duration of 1s to 24h", b)
	}
	g.Duration = d
	return nil
}

func (l *levelText) UnmarshalText(b []byte) error {
	if l.Level.UnmarshalText(b) != nil {
		return fmt.Errorf("log_level %q is not debug, info, warn or error", b)
	}
	return nil
}

// LoadConfig reads a kdc.toml. It takes no field it does not know; its errors are one line with line and column.
func LoadConfig(path string) (Config, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Config{}, fmt.Errorf("%w: there is no %s: run kdc init", ErrNotInitialised, path)
	}
	if err != nil {
		return Config{}, fmt.Errorf("configuration %w", err)
	}
	if info.Size() > maxConfig {
		return Config{}, fmt.Errorf("configuration %s is too long: %d bytes, at most %d", path, info.Size(), maxConfig)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("configuration %w", err)
	}
	c, err := parseConfig(text)
	if err != nil {
		return Config{}, fmt.Errorf("configuration %s: %w", path, err)
	}
	return c, nil
}

func parseConfig(text []byte) (Config, error) {
	f := tomlFile{Store: storeText{storeBolt}, Grace: graceText{defaultGrace}}
	d := toml.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return Config{}, configFault(err)
	}
	c := Config{Store: f.Store.text, Grace: f.Grace.Duration, LogLevel: f.LogLevel.Level}
	for _, l := range f.Listen {
		c.Listen = append(c.Listen, l.text)
	}
	for _, a := range f.Addresses {
		c.Addresses = append(c.Addresses, a.text)
	}
	for _, o := range f.Overlays {
		c.Overlays = append(c.Overlays, o.Prefix)
	}
	return c, c.check()
}

// fileFault is what is wrong in a configuration, and where.
type fileFault struct {
	row, column int
	what        string
}

func (f *fileFault) Error() string {
	return fmt.Sprintf("line %d column %d: %s", f.row, f.column, f.what)
}

// configFault makes one line of the decoder's error: where, and what.
func configFault(err error) error {
	if strict, ok := errors.AsType[*toml.StrictMissingError](err); ok && len(strict.Errors) > 0 {
		row, column := strict.Errors[0].Position()
		return &fileFault{row, column, fmt.Sprintf("unknown field %q", strings.Join(strict.Errors[0].Key(), "."))}
	}
	if fault, ok := errors.AsType[*toml.DecodeError](err); ok {
		row, column := fault.Position()
		what := strings.TrimPrefix(fault.Error(), "toml: ")
		if strings.HasPrefix(what, "cannot decode") { // it goes on with names of Go types
			what = strings.Join(fault.Key(), ".") + " is of a wrong type: lists are in [ ], all values in quotes"
		}
		return &fileFault{row, column, what}
	}
	return err
}

// check is what no single value shows.
func (c Config) check() error {
	switch {
	case len(c.Listen) == 0:
		return errors.New("listen is missing or empty")
	case len(c.Addresses) == 0 || len(c.Addresses) > control.MaxAddresses:
		return fmt.Errorf("addresses lists %d KDCs, want 1 to %d", len(c.Addresses), control.MaxAddresses)
	case len(c.Overlays) == 0 || len(c.Overlays) > maxOverlays:
		return fmt.Errorf("overlays lists %d prefixes, want 1 to %d", len(c.Overlays), maxOverlays)
	}
	for i, o := range c.Overlays {
		if slices.ContainsFunc(c.Overlays[:i], o.Overlaps) {
			return fmt.Errorf("overlay %s overlaps another", o)
		}
	}
	for _, text := range c.Addresses {
		at, err := netip.ParseAddrPort(text)
		inside := func(o netip.Prefix) bool { return o.Contains(at.Addr().Unmap()) }
		if i := slices.IndexFunc(c.Overlays, inside); err == nil && i >= 0 {
			return fmt.Errorf("address %s lies inside the overlay %s: SSMs would have to reach it through the tunnel that it makes",
				text, c.Overlays[i])
		}
	}
	return nil
}

// text is the file, with what each line is for.
func (c Config) text() []byte {
	overlays := make([]string, len(c.Overlays))
	for i, o := range c.Overlays {
		overlays[i] = o.String()
	}
	return fmt.Appendf(nil, `# The KDC's configuration. kdc serve reads it when it starts, addresses and log_level again on SIGHUP.

# TCP addresses to serve.
listen = %s

# HOST:PORT that SSMs are told to dial, one for each KDC. They learn changes.
addresses = %s

# Out of which peers are given their addresses.
overlays = %s

store = %q

# How long a KDC that is cut off from its store goes on issuing.
grace = %q

# The least that is logged: debug, info, warn or error.
log_level = %q
`, tomlList(c.Listen), tomlList(c.Addresses), tomlList(overlays), c.Store, c.Grace.String(), strings.ToLower(c.LogLevel.String()))
}

func tomlList(list []string) string {
	quoted := make([]string, len(list))
	for i, s := range list {
		quoted[i] = strconv.Quote(s)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// sameButAddresses compares what cannot change while serving. The log is the caller's.
func sameButAddresses(a, b Config) bool {
	return slices.Equal(a.Listen, b.Listen) && slices.Equal(a.Overlays, b.Overlays) &&
		a.Store == b.Store && a.Grace == b.Grace
}

// Reload takes a new configuration while serving: the addresses that SSMs are told; the log level is the caller's to change.
// What else changed needs a restart, and is ErrInvalid.
func (k *KDC) Reload(c Config) error {
	now := k.Config()
	if !sameButAddresses(now, c) {
		return fmt.Errorf("%w: only addresses and log_level can change while serving: restart kdc serve for the rest", ErrInvalid)
	}
	k.settings.Store(&c)
	k.update(false)
	return nil
}
