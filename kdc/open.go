package kdc

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"ssmnet/kdc/store"
	"ssmnet/packet/secret"
)

// Open assembles the KDC of a directory. configPath "" is DIR/kdc.toml. Its errors are one line and say what to do:
// ErrNotInitialised, ErrInUse, ErrStoreKey, secret.ErrLoose, store.ErrForeign, store.ErrDamaged.
func Open(dir, configPath string, log *slog.Logger) (*KDC, error) {
	if configPath == "" {
		configPath = filepath.Join(dir, configFile)
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
