package kernel

import (
	"errors"
	"os"
	"path"
	"strings"
)

// Sysctls is where those of the network are.
const Sysctls = "/proc/sys/net"

// Sysctl reads one, named by its path below Sysctls. Errors: fs.ErrNotExist.
func Sysctl(name string) (string, error) {
	root, err := os.OpenRoot(Sysctls)
	if err != nil {
		return "", err
	}
	defer root.Close()
	value, err := root.ReadFile(name)
	return strings.TrimSpace(string(value)), err
}

// SetSysctl sets one. Errors: fs.ErrNotExist.
func SetSysctl(name, value string) error {
	root, err := os.OpenRoot(Sysctls)
	if err != nil {
		return err
	}
	defer root.Close()
	f, err := root.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

// Forwarding names the sysctl that says whether an interface forwards what comes in by it, of the family ipv4 or ipv6. That
// of IPv6 came with Linux 6.17.
func Forwarding(family, ifname string) string {
	name := map[string]string{"ipv4": "forwarding", "ipv6": "force_forwarding"}[family]
	return path.Join(family, "conf", ifname, name)
}
