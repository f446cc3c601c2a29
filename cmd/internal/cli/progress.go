package cli

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Progress gives what shows how far long work has come: one line, written over by the next. done takes it away. Where w is
// no terminal neither writes anything.
func Progress(w io.Writer) (show func(format string, args ...any), done func()) {
	if !terminal(w) {
		return func(string, ...any) {}, func() {}
	}
	const anew = "\r\x1b[K" // ECMA-48, 8.3.41: erase in line
	return func(format string, args ...any) { fmt.Fprintf(w, anew+format, args...) }, func() { io.WriteString(w, anew) }
}

func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
