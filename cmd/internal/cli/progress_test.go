package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestProgress(t *testing.T) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer tty.Close()
	show, done := Progress(tty)
	show("%d of %d", 1, 2)
	done()
	got := make([]byte, 100)
	n, err := master.Read(got)
	if want := "\r\x1b[K1 of 2"; err != nil || !strings.HasPrefix(string(got[:n]), want) {
		t.Errorf("a terminal shows %q (%v), want %q first", got[:n], err, want)
	}
}

func TestProgressElsewhere(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var b strings.Builder
	for _, c := range []func() (func(string, ...any), func()){
		func() (func(string, ...any), func()) { return Progress(f) },
		func() (func(string, ...any), func()) { return Progress(&b) },
	} {
		show, done := c()
		show("%d of %d", 1, 2)
		done()
	}
	if info, err := f.Stat(); err != nil || info.Size() > 0 || b.Len() > 0 {
		t.Errorf("shown where nobody looks: %v, %q (%v)", info.Size(), b.String(), err)
	}
}
