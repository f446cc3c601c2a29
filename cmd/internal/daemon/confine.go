package daemon

import (
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
)

// Confine takes everything but these rights from the process, on all its threads and for good. What of it the kernel
// lacks is left out, and the log says what is in force. It ends a start: whatever needs more has been opened.
//
// The capabilities go by psx, which reaches all threads with cgo (go test -race) and without; syscall.AllThreadsSyscall
// does without alone.
func Confine(keep Rights, log *slog.Logger) error {
	_, _ = time.Now().Zone() // reads /etc/localtime, once
	if err := keepForGood(keep.Capabilities); err != nil {
		return err
	}
	kept := "none"
	if len(keep.Capabilities) > 0 {
		kept = strings.ToUpper(strings.Join(names(keep.Capabilities), " "))
	}
	version, err := ll.LandlockGetABIVersion()
	if err != nil {
		log.Info("confined", "capabilities", kept, "landlock", "not in this kernel")
		return nil
	}
	if err := restrict(keep); err != nil {
		return fmt.Errorf("landlock: %w", err)
	}
	log.Info("confined", "capabilities", kept, "landlock", version)
	return nil
}

func names[T fmt.Stringer](list []T) (names []string) {
	for _, v := range list {
		names = append(names, v.String())
	}
	return names
}

// Rights to files and directories, of those that landlock knows.
const (
	readFile  = landlock.AccessFSSet(ll.AccessFSReadFile)
	writeFile = readFile | landlock.AccessFSSet(ll.AccessFSWriteFile|ll.AccessFSTruncate)
	readDir   = readFile | landlock.AccessFSSet(ll.AccessFSReadDir)
	writeDir  = readDir | writeFile
	ownDir    = writeDir | landlock.AccessFSSet(ll.AccessFSMakeReg|ll.AccessFSRemoveFile)
)

// What landlock 6 may restrict besides files and ports.
const (
	abstractSockets = landlock.ScopedSet(1 << iota)
	signals
)

// restrict puts landlock in force: everything of its seventh version, as far as the kernel has it. Nothing may be
// executed, and no directory, device or link be made, anywhere.
func restrict(keep Rights) error {
	c := landlock.V7.BestEffort()
	if keep.TCP {
		c.HandledAccessNet = 0
	}
	// Before the second fix of its errata a signal to a thread of one's own counted as one to a stranger, and Go's
	// runtime sends those all the time.
	if errata, err := ll.LandlockGetErrata(); err != nil || errata&2 == 0 {
		c.Scoped &^= signals
	}
	if strings.HasPrefix(os.Getenv("NOTIFY_SOCKET"), "@") {
		c.Scoped &^= abstractSockets
	}
	var rules []landlock.Rule
	allow := func(file, dir landlock.AccessFSSet, paths ...string) error {
		for _, path := range paths {
			info, err := os.Stat(path)
			if err != nil {
				continue
			}
			if err := pin(path); err != nil {
				return err
			}
			access := file
			if info.IsDir() {
				access = dir
			}
			rules = append(rules, landlock.PathAccess(access, path))
		}
		return nil
	}
	for _, err := range []error{
		allow(writeFile, ownDir, keep.Dir), allow(readFile, readDir, keep.Reads...), allow(writeFile, writeDir, keep.Writes...),
	} {
		if err != nil {
			return err
		}
	}
	if keep.Device != "" {
		rules = append(rules, landlock.PathAccess(writeFile, keep.Device).WithIoctlDev().IgnoreIfMissing())
	}
	return c.Restrict(slices.Clip(rules)...)
}

// pin keeps what is at a path of /proc what it is. A rule is about an inode, and the kernel forgets those of /proc when
// it is short of memory, and makes others; not while a descriptor is open.
func pin(path string) error {
	if !strings.HasPrefix(path, "/proc/") {
		return nil
	}
	_, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
