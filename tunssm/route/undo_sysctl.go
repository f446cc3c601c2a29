package route

import (
	"errors"
	"fmt"
	"io/fs"

	"ssmnet/tunssm/kernel"
)

// Sysctl gives a sysctl, named by its path below /proc/sys/net, a value, on record. Where it has that value already,
// nothing is changed and nothing recorded.
func (j *Journal) Sysctl(name, value string) error {
	c := change{Kind: "sysctl", Name: name, Now: value}
	if err := checkChange(c); err != nil {
		return fmt.Errorf("route: %w", err)
	}
	was, err := currentSysctl(c)
	if err != nil {
		return kernel.Wrap(err, "read the sysctl %s", name)
	}
	if was == value {
		return nil
	}
	c.Was = was
	if err := j.once(c); err != nil {
		return err
	}
	return kernel.Wrap(setSysctl(c, value), "set the sysctl %s to %s", name, value)
}

func checkSysctl(c change) error {
	if !fs.ValidPath(c.Name) || c.Name == "." || c.Now == "" || c.Interface != "" || c.Index != 0 {
		return fmt.Errorf("%.80q is no sysctl below %s with a value", c.Name, kernel.Sysctls)
	}
	return nil
}

func currentSysctl(c change) (string, error) {
	value, err := kernel.Sysctl(c.Name)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w: %w", errGone, err)
	}
	return value, err
}

func setSysctl(c change, value string) error {
	err := kernel.SetSysctl(c.Name, value)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
