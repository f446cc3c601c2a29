package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"ssmnet/cmd/internal/cli"
	"ssmnet/packet/control"
)

// credentialsEnv names the directory of the credentials that systemd hands over (systemd.exec(5), LoadCredential).
const credentialsEnv = "CREDENTIALS_DIRECTORY"

// ownIdentity is the identity in DIR. A host that has none yet, such as one made from an image, takes its first from a
// credential: "identity" as it is, or "token" by redeeming it. From then on it lies in DIR, where rotation replaces it,
// and no credential counts.
func ownIdentity(c *cli.Context) (control.Identity, error) {
	path := cli.In(c, identityName)
	if from := os.Getenv(credentialsEnv); from != "" && absent(path) {
		if err := provide(c, from); err != nil {
			return control.Identity{}, err
		}
	}
	return loadIdentity(c)
}

func absent(path string) bool {
	_, err := os.Lstat(path)
	return errors.Is(err, fs.ErrNotExist)
}

// provide makes the identity of what lies in the directory from; of neither credential it makes nothing.
func provide(c *cli.Context, from string) error {
	identity, token := filepath.Join(from, "identity"), filepath.Join(from, "token")
	switch given, err := readIdentity(identity); {
	case err == nil:
		defer given.Destroy()
		return claimed(c, func(path string) error { return saveIdentity(path, given) })
	case !errors.Is(err, fs.ErrNotExist):
		return err
	case absent(token):
		return nil
	}
	text, err := cli.ReadSecretArg(nil, "", token)
	if err != nil {
		return err
	}
	t, err := control.ParseToken(text)
	if err != nil {
		return cli.Failedf("%s: %w", token, err)
	}
	defer t.Key.Destroy()
	_, err = redeem(c, t)
	return err
}
