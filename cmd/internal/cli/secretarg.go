package cli

import (
	"io"
	"os"
	"strings"
)

// secretLimit bounds what is read where a token is expected, in bytes.
const secretLimit = 64 << 10

// ReadSecretArg reads a secret the way the user chose to give it: typed as an argument, "-" for standard input, or from
// a file. Exactly one of arg and file is set. What it gives is trimmed and not empty. No error quotes any of it.
func ReadSecretArg(stdin io.Reader, arg, file string) (string, error) {
	switch {
	case arg != "" && file != "":
		return "", Usagef("give the secret once: as an argument, '-' for standard input, or in a file")
	case file == "-" || arg == "-":
		return readSecret(stdin, "standard input")
	case file != "":
		f, err := os.Open(file)
		if err != nil {
			return "", Failedf("cannot read the secret: %w", err)
		}
		defer f.Close()
		return readSecret(f, file)
	case strings.TrimSpace(arg) == "":
		return "", Usagef("missing the secret: give it as an argument, '-' for standard input, or in a file")
	}
	return readSecret(strings.NewReader(arg), "the argument")
}

func readSecret(r io.Reader, from string) (string, error) {
	b, err := io.ReadAll(io.LimitReader(r, secretLimit+1))
	defer clear(b)
	switch {
	case err != nil:
		return "", Failedf("cannot read the secret from %s: %w", from, err)
	case len(b) > secretLimit:
		return "", Usagef("the secret from %s is longer than %d bytes", from, secretLimit)
	}
	s := strings.TrimSpace(string(b))
	if s == "" {
		return "", Usagef("the secret from %s is empty", from)
	}
	return s, nil
}
