package undo

import (
	"os"
	"testing"

	"ssmnet/cmd/e2e/space"
)

// TestPutBackFails: what the kernel does not take back stays on record while the rest is undone, and is tried again by
// the next run.
func TestPutBackFails(t *testing.T) {
	space.Enter(t, space.TUN)
	j, path, log := newJournal(t)
	was := space.Sysctl(t, redirects)
	other := map[string]string{"0": "1", "1": "0"}[was]
	stuck := Change{Kind: "sysctl", Name: forwarding, Was: "no number", Now: space.Sysctl(t, forwarding)}
	if err := j.record(stuck); err != nil {
		t.Fatal(err)
	}
	if err := j.Sysctl(redirects, other); err != nil {
		t.Fatal(err)
	}
	for run, want := range []int{1, 0} {
		if n, err := again(path, log).PutBack(); n != want || err == nil {
			t.Errorf("run %d: %d undone, %v", run, n, err)
		}
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("run %d: the record is gone: %v", run, err)
		}
	}
	if got := space.Sysctl(t, redirects); got != was {
		t.Errorf("the other was not put back: %s", got)
	}
}
