package undo

import (
	"errors"
	"fmt"
	"io/fs"

	"ssmnet/tunssm/kernel"
)

// Sysctl gives a sysctl, named by its path below /proc/sys/net, a value, on record. Where it has that value already,
// nothing is changed and nothing recorded.
func (j *Journal) Sysctl(name, value string) error {
	c := Change{Kind: Sysctl, Name: name, Now: value}
	if err := c.check(); err != nil {
		return fmt.Errorf("undo: %w", err)
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

// Preserve records the value of a sysctl that undoing a later change is going to take away.
func (j *Journal) Preserve(name, value string) error {
	return j.once(Change{Kind: Sysctl, Name: name, Was: value, Now: value})
}

func checkSysctl(c Change) error {
	if !fs.ValidPath(c.Name) || c.Name == "." || c.Now == "" || c.Interface != "" || c.Index != 0 {
		return fmt.Errorf("%.80q is no sysctl below %s with a value", c.Name, kernel.Sysctls)
	}
	return nil
}

func currentSysctl(c Change) (string, error) {
	value, err := kernel.Sysctl(c.Name)
	return value, orGone(err)
}

func setSysctl(c Change, value string) error { return orGone(kernel.SetSysctl(c.Name, value)) }

func orGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", errGone, err)
	}
	return err
}
