package netns

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"time"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// attempt is something that a process tries, once as root has started it and once confined. The error says whether it
// was let: EPERM and EACCES mean that it was not. Where success would harm the machine, what is asked for is impossible
// as well, which the kernel looks at after the privilege.
type attempt struct {
	what string
	may  string // the daemons that go on being let: "ssm", "kdc", "ssm kdc"
	try  func() error
}

// scene is what attempts are made on. It is set before the process is confined.
type scene struct {
	dir       string // state directory
	elsewhere string // another, with a file "kept" in it and a socket "socket" that is listened on
	stranger  int    // pid of another process
	bound     *net.TCPListener
	abstract  string // name of a socket that is listened on
	sockets   []net.Listener
}

// attempts are the rows of the table in the README.
func (s *scene) attempts() []attempt {
	return slices.Concat(s.ofFiles(), s.ofIdentity(), s.ofProcesses(), s.ofNetwork(), ofTheMachine(), s.ofDuty())
}

func (s *scene) ofFiles() []attempt {
	return []attempt{
		{"read /etc/shadow", "", func() error { return open("/etc/shadow", unix.O_RDONLY) }},
		{"list /", "", func() error { return open("/", unix.O_RDONLY|unix.O_DIRECTORY) }},
		{"write a file of /etc", "", func() error { return open("/etc/hostname", unix.O_WRONLY) }},
		{"make a file in /tmp", "", func() error { return makeFile(os.TempDir()) }},
		{"truncate a file elsewhere", "", func() error { return unix.Truncate(filepath.Join(s.elsewhere, "kept"), 0) }},
		{"read another user's file in DIR", "", func() error { return open(filepath.Join(s.dir, "foreign"), unix.O_RDONLY) }},
		{"give a file in DIR away", "", func() error { return os.Chown(filepath.Join(s.dir, "identity"), nobody, nobody) }},
		{"make a device in DIR", "", func() error {
			name := filepath.Join(s.dir, "device")
			defer os.Remove(name)
			return unix.Mknod(name, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3)))
		}},
		{"make a symbolic link in DIR", "", func() error {
			name := filepath.Join(s.dir, "link")
			defer os.Remove(name)
			return os.Symlink("/etc/shadow", name)
		}},
		{"execute a program", "", func() error { return exec.Command("/bin/true").Run() }},
		{"mount a file system", "", func() error {
			err := unix.Mount("none", s.elsewhere, "tmpfs", 0, "")
			if err == nil {
				err = unix.Unmount(s.elsewhere, 0)
			}
			return err
		}},
		{"change the root directory", "", func() error { return unix.Chroot("/") }},
		{"write a sysctl of the kernel", "", func() error { return open("/proc/sys/kernel/hostname", unix.O_WRONLY) }},
	}
}

func (s *scene) ofIdentity() []attempt {
	return []attempt{
		{"become another user", "", func() error { return onThread(func() error { return call(unix.SYS_SETRESUID, 0, 0, nobody) }) }},
		{"join another group", "", func() error { return onThread(func() error { return call(unix.SYS_SETRESGID, 0, 0, nobody) }) }},
		{"take a capability back", "", func() error { return onThread(raiseCapability) }},
		{"enter a new mount namespace", "", func() error { return onThread(func() error { return unix.Unshare(unix.CLONE_NEWNS) }) }},
		{"open the namespace of another process", "", func() error { return open(s.of("ns/net"), unix.O_RDONLY) }},
	}
}

func (s *scene) ofProcesses() []attempt {
	return []attempt{
		{"trace another process", "", func() error {
			return onThread(func() error { return call(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(s.stranger), 0) })
		}},
		{"read another process's memory", "", func() error { return open(s.of("mem"), unix.O_RDONLY) }},
		{"read another process's environment", "", func() error { return open(s.of("environ"), unix.O_RDONLY) }},
		{"signal another process", "", func() error { return unix.Kill(s.stranger, 0) }},
		{"raise its own priority", "", func() error {
			return onThread(func() error { return unix.Setpriority(unix.PRIO_PROCESS, 0, -1) })
		}},
		{"connect to an abstract unix socket", "", func() error { return connect("unix", s.abstract) }},
		{"connect to a unix socket by its path", "ssm kdc", func() error {
			return connect("unix", filepath.Join(s.elsewhere, "socket"))
		}},
	}
}

func (s *scene) ofNetwork() []attempt {
	return []attempt{
		{"bind a port below 1024", "", func() error { return bind("127.0.0.1:80") }},
		{"open a raw socket", "", func() error { return socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP) }},
		{"open a packet socket", "", func() error { return socket(unix.AF_PACKET, unix.SOCK_RAW, 0) }},
		{"bind another TCP port", "ssm", func() error { return bind("127.0.0.1:0") }},
		{"connect by TCP", "ssm", func() error { return connect("tcp", s.bound.Addr().String()) }},
		{"send by UDP", "ssm kdc", func() error { return connect("udp", "127.0.0.1:9") }},
		{"make an interface", "ssm", func() error {
			link := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "attempt"}}
			err := netlink.LinkAdd(link)
			if err == nil {
				err = netlink.LinkDel(link)
			}
			return err
		}},
		{"attach to a TUN", "ssm", attachTUN},
		{"write a sysctl of the network", "ssm", func() error {
			return os.WriteFile("/proc/sys/net/ipv4/conf/lo/forwarding", []byte("1"), 0)
		}},
		{"exceed the host's socket buffers", "ssm", forceBuffer},
		{"read /etc/resolv.conf and /etc/hosts", "ssm", func() error {
			return errors.Join(open("/etc/resolv.conf", unix.O_RDONLY), open("/etc/hosts", unix.O_RDONLY))
		}},
	}
}

func ofTheMachine() []attempt {
	impossible := unix.Timex{Modes: unix.ADJ_TICK, Tick: 1}
	return []attempt{
		{"set the clock", "", func() error { _, err := unix.Adjtimex(&impossible); return err }},
		{"set the host's name", "", func() error { return unix.Sethostname(nil) }}, // tried in a namespace of its own
		{"reboot", "", func() error {
			return call(unix.SYS_REBOOT, unix.LINUX_REBOOT_MAGIC1, unix.LINUX_REBOOT_MAGIC2, 1)
		}},
		{"use a swap file", "", func() error { return callPath(unix.SYS_SWAPON, "/dev/null") }},
	}
}

// ofDuty is what a daemon lives on.
func (s *scene) ofDuty() []attempt {
	return []attempt{
		{"write, rename and remove in DIR", "ssm kdc", func() error { return replaceFile(filepath.Join(s.dir, "identity")) }},
		{"read what is in DIR", "ssm kdc", func() error { return open(filepath.Join(s.dir, "identity"), unix.O_RDONLY) }},
		{"read its own /proc and the boot's id", "ssm", func() error {
			return errors.Join(open("/proc/self/maps", unix.O_RDONLY), open("/proc/net/route", unix.O_RDONLY),
				open("/proc/sys/kernel/random/boot_id", unix.O_RDONLY))
		}},
		{"accept on a port bound before", "ssm kdc", func() error {
			if err := s.bound.SetDeadline(time.Now().Add(time.Millisecond)); err != nil {
				return err
			}
			if conn, err := s.bound.Accept(); err == nil {
				return conn.Close()
			} else if !errors.Is(err, os.ErrDeadlineExceeded) {
				return err
			}
			return nil
		}},
		{"use 200 MiB and 20 threads more", "ssm kdc", grow},
	}
}

func (s *scene) of(file string) string {
	return filepath.Join("/proc", strconv.Itoa(s.stranger), file)
}

func open(path string, flag int) error {
	fd, err := unix.Open(path, flag|unix.O_CLOEXEC, 0)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

func makeFile(dir string) error {
	f, err := os.CreateTemp(dir, "ssmnet-attempt")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

func replaceFile(path string) error {
	if err := os.WriteFile(path+".new", nil, 0o600); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	return makeFile(filepath.Dir(path))
}

// onThread does f on a thread that ends with it, and what f has changed of the thread with the thread.
func onThread(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- f()
	}()
	return <-done
}

func call(number uintptr, a, b, c uintptr) error {
	if _, _, errno := unix.RawSyscall6(number, a, b, c, 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

func callPath(number uintptr, path string) error {
	p, err := unix.BytePtrFromString(path)
	if err != nil {
		return err
	}
	if _, _, errno := unix.Syscall(number, uintptr(unsafe.Pointer(p)), 0, 0); errno != 0 {
		return errno
	}
	return nil
}

func raiseCapability() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return err
	}
	sets[0].Permitted |= 1 << unix.CAP_SETUID
	sets[0].Effective |= 1 << unix.CAP_SETUID
	return unix.Capset(&header, &sets[0])
}

func connect(network, address string) error {
	conn, err := net.Dial(network, address)
	if err != nil {
		return err
	}
	if network == "udp" {
		_, err = conn.Write([]byte("datagram"))
	}
	return errors.Join(err, conn.Close())
}

// bind is for TCP proper: net.Listen prefers Multipath TCP, which landlock does not know.
func bind(address string) error {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(context.Background(), "tcp", address)
	if err != nil {
		return err
	}
	return l.Close()
}

func socket(family, kind, protocol int) error {
	fd, err := unix.Socket(family, kind|unix.SOCK_CLOEXEC, protocol)
	if err == nil {
		unix.Close(fd)
	}
	return err
}

func attachTUN() error {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq("attempt")
	if err != nil {
		return err
	}
	request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	return unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
}

func forceBuffer() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20)
}

func grow() error {
	memory := make([]byte, 200<<20)
	for i := 0; i < len(memory); i += os.Getpagesize() {
		memory[i] = 1
	}
	var threads sync.WaitGroup
	for range 20 {
		threads.Go(runtime.LockOSThread) // each ends with its thread
	}
	threads.Wait()
	runtime.KeepAlive(memory)
	return nil
}
