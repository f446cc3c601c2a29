package daemon

import (
	"os"
	"path/filepath"
	"slices"

	"kernel.org/pub/linux/libs/security/libcap/cap"
)

// Rights are what a daemon keeps when it has started, for the rest of its life. Descriptors that are open by then stay
// as they are: the log, the lock of the store, ports, the interface.
type Rights struct {
	Capabilities []cap.Value
	Dir          string   // state directory: files in it are read, written, made and removed
	Reads        []string // files, and directories with all that is beneath; where one does not exist, it is left out
	Writes       []string // likewise, to write what is there, but to make and remove nothing
	Device       string   // to read, write and control
	TCP          bool     // it may connect, and bind more ports
}

// SSM are the rights of `ssm run` on a state directory, with its configuration in a file.
//
// CAP_NET_ADMIN is for what goes on changing: addresses and routes of the interface, sysctls below /proc/sys/net (the
// kernel takes it for those of its network namespace) and the netfilter rules of a gateway, buffers beyond the host's
// limit, and a congestion control that the host does not offer to everybody (Persistent).
//
// Names of KDCs are looked up whenever one is dialled. Boot id and /proc/thread-self are what DIR/undo begins with.
func SSM(dir, config string) Rights {
	return Rights{
		Capabilities: []cap.Value{cap.NET_ADMIN},
		Dir:          dir,
		Reads: slices.Concat(resolver("/etc"), configured(config),
			[]string{ownProcess, "/proc/sys/kernel/random/boot_id"}),
		Writes: []string{"/proc/sys/net"},
		Device: "/dev/net/tun", // putting back how an interface was found takes attaching to it anew
		TCP:    true,
	}
}

// KDC are those of `kdc serve`, which accepts connections on the ports that it has, and makes none.
func KDC(dir, config string) Rights {
	return Rights{Dir: dir, Reads: append(configured(config), ownProcess)}
}

// ownProcess is read for profiles.
const ownProcess = "/proc/self"

// configured is the directory of the configuration, which is read again on SIGHUP, and that of what it links to. It is
// not the file alone, since that is another one as soon as an editor has saved it.
func configured(config string) []string {
	reads := []string{filepath.Dir(config)}
	if target, err := filepath.EvalSymlinks(config); err == nil && filepath.Dir(target) != reads[0] {
		reads = append(reads, filepath.Dir(target))
	}
	return reads
}

// resolver is what Go's resolver reads of /etc. A name server's address that was put there by a link, from a directory
// of the program that keeps it, stays readable when that program writes another; a plain file does so only until it is
// replaced (and then the SSM dials the addresses that it knows): all of /etc would be root's secrets too.
func resolver(etc string) (reads []string) {
	for _, name := range []string{"resolv.conf", "hosts", "nsswitch.conf"} {
		path := filepath.Join(etc, name)
		reads = append(reads, path)
		target, err := os.Readlink(path)
		if err != nil {
			continue
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(etc, target)
		}
		if kept := filepath.Dir(target); kept != etc {
			reads = append(reads, kept)
		}
	}
	return reads
}
