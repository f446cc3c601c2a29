package netns

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// footprint is all that a program can leave on a host: interfaces, addresses, routes, rules, sockets, processes, and
// files of its directory. Of the log only that it may be there: it is meant to stay.
func (h *Host) footprint(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for _, command := range []string{
		"ip -o link", "ip -o addr", "ip -4 route show table all", "ip -6 route show table all", "ip rule", "ip -6 rule",
		"ss -Hntul",
	} {
		all.WriteString("# " + command + "\n" + counting.ReplaceAllString(h.Run(t, strings.Fields(command)...), ""))
	}
	pids, err := exec.Command("ip", "netns", "pids", h.space).Output()
	if err != nil {
		t.Fatal(err)
	}
	all.WriteString("# processes\n" + string(pids))
	all.WriteString("# files\n")
	err = filepath.WalkDir(h.dir, func(name string, e fs.DirEntry, err error) error {
		switch {
		case os.IsNotExist(err) || name == h.dir:
			return nil
		case err != nil:
			return err
		case filepath.Ext(name) != ".log":
			all.WriteString(strings.TrimPrefix(name, h.dir) + " " + e.Type().String() + "\n")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

// counting is what changes by itself: the index that tells interfaces of one namespace apart, lifetimes, and whether an
// address is yet known to be nobody else's.
var counting = regexp.MustCompile(`(?m)^[0-9]+: |expires [0-9]+sec| tentative`)

// leavesNothing checks that the host is as it was before f.
func (h *Host) leavesNothing(t *testing.T, f func()) {
	t.Helper()
	before := h.footprint(t)
	f()
	after := h.footprint(t)
	for _, line := range without(before, after) {
		t.Errorf("%s had before, and has not now: %s", h.Name, line)
	}
	for _, line := range without(after, before) {
		t.Errorf("%s has now, and had not before: %s", h.Name, line)
	}
}

// without gives the lines of a that b has not.
func without(a, b string) (lines []string) {
	there := strings.Split(b, "\n")
	for line := range strings.SplitSeq(a, "\n") {
		if !slices.Contains(there, line) {
			lines = append(lines, line)
		}
	}
	return lines
}
