package space

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
)

// inside marks the environment of a process that is root of a user namespace alone.
const inside = "SSMNET_TEST_USER_NAMESPACE"

// BeRoot, called first in TestMain, runs the tests of an ordinary user as root of a user namespace, in a process of their
// own, and exits as they do. It returns where the tests are to run here: as root, in that process, or where the kernel
// has no such namespace for us.
func BeRoot() {
	if os.Geteuid() == 0 {
		return
	}
	runtime.LockOSThread() // Pdeathsig tells of the end of the thread
	c := exec.Command(os.Args[0], os.Args[1:]...)
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	c.Env = append(os.Environ(), inside+"=1")
	c.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	if c.Start() != nil {
		runtime.UnlockOSThread()
		return
	}
	var exit *exec.ExitError
	if err := c.Wait(); err != nil && !errors.As(err, &exit) {
		os.Exit(1)
	}
	os.Exit(c.ProcessState.ExitCode())
}

// Root skips a test that needs root of the machine itself: other users, mounts, named namespaces.
func Root(t testing.TB) {
	t.Helper()
	if !IsRoot() {
		t.Skip("needs root of the machine, as scripts/test.sh has it")
	}
}

// IsRoot says whether we are root of the machine, and not only of a user namespace.
func IsRoot() bool { return os.Geteuid() == 0 && os.Getenv(inside) == "" }

// Require skips a test for want of privilege, and fails it for any other error.
func Require(t testing.TB, err error) {
	t.Helper()
	if errors.Is(err, os.ErrPermission) {
		t.Skipf("needs root, as scripts/test.sh has it: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
}
