package e2e

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// drawing is a diagram with one vertical lane for each party, time running down. Control messages are drawn ---->,
// frames on the underlay ====>, both at the moment they depart; what happens at one party stands beside its lane.
type drawing struct {
	lanes  []string
	column []int // of each lane
	text   strings.Builder
}

const (
	timeWidth = 11 // in front of the first lane
	laneGap   = 24 // between lanes, at least
)

func newDrawing(lanes []string) *drawing {
	d := &drawing{lanes: lanes}
	d.text.WriteString("---> a control message, ===> a frame on the underlay, at the moment it departs\n")
	for i := range lanes {
		d.column = append(d.column, timeWidth+i*laneGap)
	}
	return d
}

// lane is the number of a party, after all others where it has no lane.
func (d *drawing) lane(name string) int {
	if i := slices.Index(d.lanes, name); i >= 0 {
		return i
	}
	return len(d.lanes)
}

// fit makes room for a label.
func (d *drawing) fit(e event) {
	a, b := min(d.lane(e.from), d.lane(e.to)), max(d.lane(e.from), d.lane(e.to))
	need := len(e.label) + 8
	if a == b {
		b, need = a+1, len(e.label)+4
	}
	if b >= len(d.lanes) {
		return
	}
	if short := need - (d.column[b] - d.column[a]); short > 0 {
		for i := b; i < len(d.column); i++ {
			d.column[i] += short
		}
	}
}

// note is a line of text before a chapter.
func (d *drawing) note(text string) {
	d.text.WriteString("\n" + text + "\n\n")
}

// head names the lanes.
func (d *drawing) head() {
	line := fmt.Sprintf("%*s", timeWidth-3, "ms")
	for i, name := range d.lanes {
		line += strings.Repeat(" ", d.column[i]-utf8.RuneCountInString(line)) + name
	}
	d.text.WriteString(line + "\n")
}

// row draws one event. An event of a party without a lane would vanish, so it is drawn as what it is: a fault.
func (d *drawing) row(e event) {
	from, to := d.lane(e.from), d.lane(e.to)
	if from == len(d.lanes) || to == len(d.lanes) {
		fmt.Fprintf(&d.text, "no lane for %s > %s %s\n", e.from, e.to, e.label)
		return
	}
	width := d.column[len(d.lanes)-1] + len(e.label) + 4
	line := []byte(strings.Repeat(" ", width))
	copy(line, fmt.Sprintf("%*.1f", timeWidth-3, float64(e.at)/float64(time.Millisecond)))
	for _, c := range d.column {
		line[c] = '|'
	}
	if from == to {
		copy(line[d.column[from]+2:], e.label)
	} else {
		d.arrow(line, e, d.column[from], d.column[to])
	}
	d.text.WriteString(strings.TrimRight(string(line), " ") + "\n")
}

func (d *drawing) arrow(line []byte, e event, from, to int) {
	stroke, left, right := byte('-'), min(from, to), max(from, to)
	if e.frame {
		stroke = '='
	}
	for i := left + 1; i < right; i++ {
		line[i] = stroke
	}
	if from < to {
		line[right-1] = '>'
	} else {
		line[left+1] = '<'
	}
	copy(line[left+4:], e.label)
	for _, c := range d.column { // a lane that the arrow passes stays to be seen, unless the label covers it
		if c > left+4+len(e.label) && c < right {
			line[c] = '|'
		}
	}
}
