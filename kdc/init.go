package kdc

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
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
	if err := vacant(dir); err != nil {
		return Config{}, err
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return Config{}, fmt.Errorf("state directory: %w", err)
	}
	return c, initFiles(dir, c)
}

// vacant is nil where dir holds nothing of a KDC.
func vacant(dir string) error {
	for _, name := range []string{configFile, keyFile, storeFile} {
		path := filepath.Join(dir, name)
		switch _, err := os.Lstat(path); {
		case err != nil:
		case name == configFile:
			return fmt.Errorf("%w: %s exists: start it with kdc serve, or name another directory", ErrExists, path)
		default:
			return fmt.Errorf("%w: %s exists without %s: put that back or, where a kdc init that was cut short has left it, "+
				"remove what is in %s", ErrExists, path, configFile, dir)
		}
	}
	return nil
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
	return secret.WriteFile(filepath.Join(dir, configFile), c.text())
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

// InitStore makes an empty store a KDC's: epoch 1, no peer, no policy. ErrExists: it is one already.
func InitStore(ctx context.Context, s store.Store, key secret.Key) error {
	ring, err := newKeyring(key)
	if err != nil {
		return err
	}
	_, err = s.Apply(ctx, []store.Condition{{Key: metaKey}},
		[]store.Op{put(metaKey, metaRecord{Schema: storeSchema, Epoch: 1, Check: ring.check()}), put(decisiveKey, 0)})
	if errors.Is(err, store.ErrConflict) {
		return ErrExists
	}
	return err
}
