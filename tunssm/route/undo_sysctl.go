package route

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// sysctls is where those of the network are, of the calling thread's namespace.
const sysctls = "/proc/sys/net"

// Sysctl gives a sysctl, named by its path below /proc/sys/net, a value, on record. Where it has that value already,
// nothing is changed and nothing recorded.
func (j *Journal) Sysctl(name, value string) error {
	c := change{Kind: "sysctl", Name: name, Now: value}
	if err := checkChange(c); err != nil {
		return fmt.Errorf("route: %w", err)
	}
	was, err := currentSysctl(c)
	if err != nil {
		return wrap(err, "read the sysctl %s", name)
	}
	if was == value {
		return nil
	}
	c.Was = was
	if err := j.once(c); err != nil {
		return err
	}
	return wrap(setSysctl(c, value), "set the sysctl %s to %s", name, value)
}

func checkSysctl(c change) error {
	if !fs.ValidPath(c.Name) || c.Name == "." || c.Now == "" || c.Interface != "" || c.Index != 0 {
		return fmt.Errorf("%.80q is no sysctl below %s with a value", c.Name, sysctls)
	}
	return nil
}

func currentSysctl(c change) (string, error) {
	root, err := os.OpenRoot(sysctls)
	if err != nil {
		return "", err
	}
	defer root.Close()
	value, err := root.ReadFile(c.Name)
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%w: %w", errGone, err)
	}
	return strings.TrimSpace(string(value)), err
}

func setSysctl(c change, value string) error {
	root, err := os.OpenRoot(sysctls)
	if err != nil {
		return err
	}
	defer root.Close()
	f, err := root.OpenFile(c.Name, os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}
