package kdc

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"ssmnet/kdc/store"
	"ssmnet/packet/control"
	"ssmnet/packet/secret"
)

// InitOptions is what Init makes a KDC of.
type InitOptions struct {
	Listen    []string       // none: port DefaultPort on every address
	Addresses []string       // HOST[:PORT], at least one
	Overlays  []netip.Prefix // none: 100.80.0.0/12 and a random fd00::/48
}

// Init makes the state directory, 0700: kdc.toml, store.key, and a store without peers and policy, which denies all.
// ErrExists: it holds a KDC already; ErrInvalid: the options make no sense. What it made before it failed it removes.
func Init(dir string, o InitOptions) (Config, error) {
	c, err := o.config()
	if err != nil {
		return Config{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Config{}, fmt.Errorf("state directory: %w", err)
	}
	for _, name := range []string{ConfigFile, keyFile, storeFile} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			return Config{}, fmt.Errorf("%w: %s exists: start it with kdc serve, or name another directory", ErrExists,
				filepath.Join(dir, name))
		}
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return Config{}, fmt.Errorf("state directory: %w", err)
	}
	return c, initFiles(dir, c)
}

// initFiles writes kdc.toml last: with it the directory counts as initialised.
func initFiles(dir string, c Config) (err error) {
	keyPath, storePath := filepath.Join(dir, keyFile), filepath.Join(dir, storeFile)
	key := secret.NewKey()
	defer key.Destroy()
	defer func() {
		if err != nil {
			os.Remove(keyPath)
			os.Remove(storePath)
		}
	}()
	if err := secret.WriteFile(keyPath, key.Bytes()); err != nil {
		return err
	}
	s, err := store.Create(storePath)
	if err != nil {
		return err
	}
	if err := errors.Join(InitStore(context.Background(), s, key), s.Close()); err != nil {
		return err
	}
	return secret.WriteFile(filepath.Join(dir, ConfigFile), c.text())
}

func (o InitOptions) config() (Config, error) {
	c := Config{Listen: o.Listen, Overlays: o.Overlays, Store: storeBolt, Grace: defaultGrace}
	if len(c.Listen) == 0 {
		c.Listen = []string{":" + strconv.Itoa(control.DefaultPort)}
	}
	if len(c.Overlays) == 0 {
		c.Overlays = []netip.Prefix{netip.MustParsePrefix("100.80.0.0/12"), randomULA()}
	}
	for _, a := range o.Addresses {
		c.Addresses = append(c.Addresses, withPort(a))
	}
	return c, c.checkAll()
}

// checkAll is what reading the file back would find wrong, but where: there is no file yet.
func (c Config) checkAll() error {
	_, err := parseConfig(c.text())
	if fault, ok := errors.AsType[*fileFault](err); ok {
		return errors.New(fault.what)
	}
	return err
}

// randomULA is a unique local prefix with a random global id (RFC 4193, section 3.2.2).
func randomULA() netip.Prefix {
	a := [16]byte{0: 0xfd}
	rand.Read(a[1:6])
	return netip.PrefixFrom(netip.AddrFrom16(a), 48)
}

// withPort adds the default port to an address without one.
func withPort(a string) string {
	if _, _, err := net.SplitHostPort(a); err == nil {
		return a
	}
	return net.JoinHostPort(strings.Trim(a, "[]"), strconv.Itoa(control.DefaultPort))
}

// Open assembles the KDC of a directory. configPath "" is DIR/kdc.toml. Its errors are one line and say what to do:
// ErrNotInitialised, ErrInUse, ErrStoreKey, secret.ErrLoose, store.ErrForeign, store.ErrDamaged.
func Open(dir, configPath string, log *slog.Logger) (*KDC, error) {
	if configPath == "" {
		configPath = filepath.Join(dir, ConfigFile)
	}
	config, err := LoadConfig(configPath)
	if err != nil {
		return nil, err
	}
	key, err := readStoreKey(storeKey(dir))
	if err != nil {
		return nil, err
	}
	defer key.Destroy()
	s, err := openStore(filepath.Join(dir, storeFile))
	if err != nil {
		return nil, err
	}
	f, err := openAudit(filepath.Join(dir, auditFile))
	if err != nil {
		s.Close()
		return nil, err
	}
	k, err := New(Options{Store: s, StoreKey: key, Config: config, Audit: f, Log: log})
	if err != nil {
		f.Close()
		s.Close()
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	k.close = func() error { return errors.Join(s.Close(), f.Close()) }
	return k, nil
}

// storeKey is the path of the store key: in the state directory or, where it was taken out of it, the credential of that
// name that systemd hands over (systemd.exec(5), LoadCredential). It is never written after Init.
func storeKey(dir string) string {
	path, from := filepath.Join(dir, keyFile), os.Getenv("CREDENTIALS_DIRECTORY")
	if _, err := os.Lstat(path); from == "" || !errors.Is(err, fs.ErrNotExist) {
		return path
	}
	return filepath.Join(from, keyFile)
}

func readStoreKey(path string) (secret.Key, error) {
	b, err := secret.ReadFile(path, secret.Size)
	if errors.Is(err, fs.ErrNotExist) {
		return secret.Key{}, fmt.Errorf("%w: store key %s is missing: put it back, without it the store opens nothing",
			ErrNotInitialised, path)
	}
	if err != nil {
		return secret.Key{}, fmt.Errorf("store key %w", err)
	}
	defer clear(b)
	key, err := secret.KeyFrom(b)
	if err != nil {
		return secret.Key{}, fmt.Errorf("store key %s is truncated: %d bytes, want %d: put it back", path,
			len(b), secret.Size)
	}
	return key, nil
}

func openStore(path string) (*store.Bolt, error) {
	s, err := store.Open(path)
	switch {
	case errors.Is(err, store.ErrInUse):
		return nil, fmt.Errorf("%w from %s: stop it first", ErrInUse, filepath.Dir(path))
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("%w: store %s is missing: restore a backup, or run kdc init in another directory",
			ErrNotInitialised, path)
	}
	return s, err
}

// Reload takes a new configuration while serving: the addresses that SSMs are told; the log level is
// the caller's to change. What else changed needs a restart,
// and is ErrInvalid.
func (k *KDC) Reload(c Config) error {
	now := k.Config()
	if !sameButAddresses(now, c) {
		return fmt.Errorf("%w: only addresses and log_level can change while serving: restart kdc serve for the rest", ErrInvalid)
	}
	k.settings.Store(&c)
	k.update(false)
	return nil
}
