package netns

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"iter"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// memory is all that a process can write to, its heap, its stacks, its variables, but for pages that hold nothing.
type memory []region

// region is pages of a mapping that follow each other.
type region struct {
	where string // the mapping's line in /proc/PID/maps
	begin uint64
	bytes []byte
}

// readMemory copies the memory of a process that runs, as root can.
func readMemory(t *testing.T, pid int) (m memory) {
	t.Helper()
	maps, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer maps.Close()
	from, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	for lines := bufio.NewScanner(maps); lines.Scan(); { // proc_pid_maps(5)
		r := region{where: lines.Text()}
		var end uint64
		var mode string
		if _, err := fmt.Sscanf(r.where, "%x-%x %s", &r.begin, &end, &mode); err != nil {
			t.Fatalf("%q: %v", r.where, err)
		}
		if !strings.HasPrefix(mode, "rw") {
			continue
		}
		r.bytes = make([]byte, end-r.begin)
		if _, err := from.ReadAt(r.bytes, int64(r.begin)); err != nil {
			t.Fatalf("%q: %v", r.where, err)
		}
		m = append(m, r.written()...)
	}
	if len(m) == 0 {
		t.Fatalf("process %d has no memory", pid)
	}
	return m
}

// written cuts out the pages that hold nothing: most of a heap.
func (r region) written() (parts []region) {
	const page = 4096
	var empty [page]byte
	was := false
	for at := 0; at < len(r.bytes); at += page {
		is := !bytes.Equal(r.bytes[at:at+page], empty[:])
		switch last := len(parts) - 1; {
		case is && was:
			parts[last].bytes = parts[last].bytes[:len(parts[last].bytes)+page]
		case is:
			parts = append(parts, region{r.where, r.begin + uint64(at), r.bytes[at : at+page]})
		}
		was = is
	}
	return parts
}

// schedules finds the keys that are ready for use.
func (m memory) schedules() (keys []rawKey) {
	for _, r := range m {
		for _, key := range schedules(r.bytes) {
			if !slices.Contains(keys, key) {
				keys = append(keys, key)
			}
		}
	}
	return keys
}

// find says where a key lies in the memory, as it is or as two successive round keys of AES, from which it follows (FIPS
// 197, section 5.2); empty where it does not. What a signal has saved of a thread's registers does not count: package
// secret says why it may be there.
func (m memory) find(key rawKey) string {
	rounds := make([]byte, 0, 4*scheduleWords)
	for _, w := range expand(key) {
		rounds = binary.BigEndian.AppendUint32(rounds, w)
	}
	for _, r := range m {
		for i := 0; i+len(key) <= len(rounds); i += 16 {
			for at := range indexes(r.bytes, rounds[i:i+len(key)]) {
				if !savedRegisters(r.bytes, at, len(key)) {
					return fmt.Sprintf("round %d at %x in %s", i/16, r.begin+uint64(at), r.where)
				}
			}
		}
	}
	return ""
}

// indexes are all places of part in b.
func indexes(b, part []byte) iter.Seq[int] {
	return func(yield func(int) bool) {
		for from := 0; ; {
			at := bytes.Index(b[from:], part)
			if at < 0 || !yield(from+at) {
				return
			}
			from += at + 1
		}
	}
}

// savedRegisters says whether size bytes are inside the vector registers of an x86 signal frame (Linux,
// asm/sigcontext.h: XMM0 to XMM15 are at 160 of the state, FP_XSTATE_MAGIC1 at 464).
func savedRegisters(b []byte, at, size int) bool {
	const registers, behind, mark = 160, 416, 464
	magic := []byte{0x53, 0x58, 0x50, 0x46}
	for state := at + size - behind; state <= at-registers; state++ {
		if state >= 0 && state+mark+len(magic) <= len(b) && bytes.Equal(b[state+mark:state+mark+len(magic)], magic) {
			return true
		}
	}
	return false
}

// erasedWithin is how soon after they ceased to be of use nothing of keys may be left in memory. An SSM or KDC waits a
// second for others; the rest is for a machine that has much else to do.
const erasedWithin = 8 * time.Second

// erased waits until nothing of these keys is left in the memory of the processes.
func erased(t *testing.T, keys []rawKey, pids ...int) {
	t.Helper()
	for _, pid := range pids {
		eventually(t, erasedWithin, "the keys are erased", func() error {
			m := readMemory(t, pid)
			for i, k := range keys {
				if at := m.find(k); at != "" {
					return fmt.Errorf("key %d of %d is in the memory of process %d: %s", i, len(keys), pid, at)
				}
			}
			return nil
		})
	}
}

// lies waits until the keys are in the memory of a process: the search finds what there is to find.
func lies(t *testing.T, what string, pid int, keys ...rawKey) {
	t.Helper()
	eventually(t, erasedWithin, what, func() error {
		m := readMemory(t, pid)
		for i, k := range keys {
			if m.find(k) == "" {
				return fmt.Errorf("key %d of %d is not in the memory of process %d", i, len(keys), pid)
			}
		}
		return nil
	})
}

// TestFind: a key is found wherever it lies, as it is or as round keys, but for the registers that a signal has saved.
func TestFind(t *testing.T) {
	key := rawKey{1, 2, 3, 31: 4}
	var rounds []byte
	for _, w := range expand(key) {
		rounds = binary.BigEndian.AppendUint32(rounds, w)
	}
	frame := func(at int) []byte { // a saved state of 512 bytes with the key at a place in it
		b := make([]byte, 512)
		copy(b[464:], "SXPF")
		copy(b[at:], key[:])
		return b
	}
	for name, c := range map[string]struct {
		lies  []byte
		found bool
	}{
		"nothing":                     {make([]byte, 64), false},
		"the key":                     {key[:], true},
		"the key but a byte":          {key[1:], false},
		"two round keys":              {rounds[16*7 : 16*9], true},
		"one round key":               {rounds[16*7 : 16*8], false},
		"first registers":             {frame(160), false},
		"last registers":              {frame(416 - 32), false},
		"before the registers":        {frame(159), true},
		"behind the registers":        {frame(416 - 31), true},
		"registers, and another copy": {slices.Concat(frame(200), key[:]), true},
		"another copy, and registers": {slices.Concat(key[:], frame(200)), true},
	} {
		for _, before := range []int{0, 1, 4096} {
			m := memory{{}, {bytes: slices.Concat(make([]byte, before), c.lies, make([]byte, 600))}}
			if found := m.find(key) != ""; found != c.found {
				t.Errorf("%s, %d bytes before it: found %v", name, before, found)
			}
		}
	}
}
