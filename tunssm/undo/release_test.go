package undo

import (
	"os"
	"slices"
	"strings"
	"testing"

	"ssmnet/cmd/e2e/space"
)

// TestRelease: what is released is put back, and no longer on record; the rest stays there, and so does what comes after.
// What somebody else has changed meanwhile is left as it is.
func TestRelease(t *testing.T) {
	space.Enter(t, space.TUN)
	space.Bridge(t, "eth1")
	j, file, log := newJournal(t)
	names := []string{"ipv4/conf/lo/forwarding", "ipv4/conf/eth1/forwarding", "ipv4/conf/default/forwarding"}
	set := func(name string) {
		t.Helper()
		if err := j.Sysctl(name, "1"); err != nil {
			t.Fatal(err)
		}
	}
	release := func(name string) {
		t.Helper()
		if err := j.Release(func(c Change) bool { return c.Name == name }); err != nil {
			t.Fatal(err)
		}
	}
	recorded := func(want ...string) {
		t.Helper()
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, changes, err := parse(text)
		var got []string
		for _, c := range changes {
			got = append(got, c.Name)
		}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("on record: %q, %v, want %q", got, err, want)
		}
	}
	set(names[0])
	set(names[1])
	set(names[1])
	recorded(names[0], names[1])
	space.SetSysctl(t, names[1], "0") // somebody
	set(names[1])
	recorded(names[0], names[1]) // once
	release(names[0])
	recorded(names[1])
	set(names[2])
	recorded(names[1], names[2])
	if got := space.Sysctl(t, names[0]) + space.Sysctl(t, names[1]) + space.Sysctl(t, names[2]); got != "011" {
		t.Errorf("they are %s", got)
	}
	space.SetSysctl(t, names[0], "1") // somebody: not ours any more
	putsBack(t, again(file, log), 2)
	if got := space.Sysctl(t, names[0]) + space.Sysctl(t, names[1]) + space.Sysctl(t, names[2]); got != "100" {
		t.Errorf("put back to %s", got)
	}
	if strings.Contains(log.String(), "somebody else") {
		t.Errorf("the log: %s", log)
	}
}

// TestSweptRecord: what a rewrite that was killed has left is taken away.
func TestSweptRecord(t *testing.T) {
	space.Enter(t, space.TUN)
	j, file, _ := newJournal(t)
	if err := os.WriteFile(file+".new", []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	putsBack(t, j, 0)
	if _, err := os.Lstat(file + ".new"); err == nil {
		t.Error("it is left")
	}
}
