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

// Tests are those of a package, for its TestMain.
type Tests struct{ *testing.M }

// Run runs an ordinary user's tests as root of a user namespace, in a process of their own. It runs them here where that
// is root already, or where the kernel has no such namespace for us.
func (t Tests) Run() int {
	if os.Geteuid() == 0 {
		return t.M.Run()
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
		return t.M.Run()
	}
	if err := c.Wait(); err != nil {
		return max(1, c.ProcessState.ExitCode())
	}
	return 0
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

// Condition answers what a testscript asks before it goes on: [root] of the machine, or [mount] where disks can be mounted.
func Condition(name string) (bool, error) {
	switch name {
	case "root":
		return IsRoot(), nil
	case "mount":
		return os.Geteuid() == 0, nil
	}
	return false, errors.New("no such condition")
}

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
