package daemon

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"
)

// starting is what a start may need: to make an interface and size buffers, to bind a port below 1024, and to empty the
// bounding set. Of whatever else root has, the privilege to pass over the permissions of files goes before the first file
// is read: what could not be read again later is then not read at the start either.
var starting = []cap.Value{cap.NET_ADMIN, cap.NET_BIND_SERVICE, cap.SETPCAP}

// OwnFiles gives up, on all threads and for good, the capabilities that no start needs, and with them access to the files
// of other users. The error says so where that takes the state directory away.
func OwnFiles(dir string) error {
	if err := keepCapabilities(starting); err != nil {
		return err
	}
	return usable(dir)
}

// usable says whether this process may read, write and search the directory with what it has left.
func usable(dir string) error {
	err := unix.Faccessat(unix.AT_FDCWD, dir, unix.R_OK|unix.W_OK|unix.X_OK, unix.AT_EACCESS)
	user := os.Geteuid()
	if user != 0 || err != unix.EACCES {
		return nil // an ordinary user never had more, and learns what there is to say when its files are opened
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("%w: %s lies in a directory that is closed to user %d, whose files alone a daemon uses",
			errForeign, dir, user)
	}
	owner := info.Sys().(*syscall.Stat_t).Uid
	return fmt.Errorf("%w: %s belongs to user %d, and a daemon of user %d uses its own files alone: run chown -R %d %s",
		errForeign, dir, owner, user, user, dir)
}

// keepCapabilities lowers the process's capabilities, on all threads, to those of keep that it has. Where it has no
// others nothing is called: a service manager that has taken them may forbid the call too.
func keepCapabilities(keep []cap.Value) error {
	have, want := cap.GetProc(), cap.NewSet()
	for _, c := range keep {
		permitted, err := have.GetFlag(cap.Permitted, c)
		if err == nil && permitted {
			err = want.SetFlag(cap.Permitted, true, c)
		}
		if err == nil && permitted {
			err = want.SetFlag(cap.Effective, true, c)
		}
		if err != nil {
			return fmt.Errorf("give up capabilities: %v: %w", c, err)
		}
	}
	if differ, err := have.Cf(want); err == nil && differ == 0 {
		return nil
	}
	if err := want.SetProc(); err != nil {
		return fmt.Errorf("give up capabilities: %w", err)
	}
	return nil
}

// securebits deny root's number the meaning it has for capabilities, whatever is executed.
const securebits = cap.SecbitNoRoot | cap.SecbitNoRootLocked | cap.SecbitNoSetUIDFixup | cap.SecbitNoSetUIDFixupLocked |
	cap.SecbitKeepCapsLocked | cap.SecbitNoCapAmbientRaise | cap.SecbitNoCapAmbientRaiseLocked

// keepForGood is keepCapabilities with every way back shut: no execution of a file gives any (PR_SET_NO_NEW_PRIVS), and
// the bounding, inheritable and ambient sets are empty. Without CAP_SETPCAP the bounding set stays as whoever has started
// us has left it; since nothing is gained by execution it then means nothing.
func keepForGood(keep []cap.Value) error {
	if may, err := cap.GetProc().GetFlag(cap.Effective, cap.SETPCAP); err == nil && may {
		if err := (cap.GetSecbits() | securebits).Set(); err != nil {
			return fmt.Errorf("give up capabilities: securebits: %w", err)
		}
		for c := range cap.MaxBits() {
			if has, err := cap.GetBound(c); err != nil || !has {
				continue
			}
			if err := cap.DropBound(c); err != nil {
				return fmt.Errorf("give up capabilities: bounding set: %w", err)
			}
		}
	}
	if err := keepCapabilities(keep); err != nil {
		return err
	}
	if _, err := cap.Prctlw(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("refuse new privileges: %w", err)
	}
	return nil
}
