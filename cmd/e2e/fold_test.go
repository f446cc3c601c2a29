package e2e

import (
	"maps"
	"slices"
	"strings"
	"time"

	"ssmnet/packet/control"
)

// What a journal counts instead of telling it, because it went as it should.

// soon is how long what belongs together may take.
const soon = time.Second

// fold finds it. The list is in its order.
func (j *journal) fold() {
	by := map[control.SessionID][]*happening{}
	for i := range j.list {
		h := &j.list[i]
		by[h.session] = append(by[h.session], h)
	}
	for i := range j.list {
		if h := &j.list[i]; h.what == "installed a session" && h.rest == "requester" {
			j.foldSession(h, by)
		}
	}
	j.foldRenewals()
}

// foldSession looks at one session, which its requester has just installed.
func (j *journal) foldSession(made *happening, by map[control.SessionID][]*happening) {
	its, asker, peer := by[made.session], made.who, made.peer
	parts := []*happening{
		made, find(its, peer, "installed a session", asker), find(its, asker, "released held packets", peer),
		find(its, asker, "session confirmed", peer), find(its, peer, "session confirmed", asker),
		find(its, "", "grant", asker+">"+peer), j.before(made, "requesting a session key", ""),
	}
	if slices.ContainsFunc(parts, func(h *happening) bool { return h == nil || (h.at-made.at).Abs() > soon }) {
		return
	}
	later := func(h *happening) bool { return h.at-made.at > soon }
	if early := slices.DeleteFunc(slices.Clone(its), later); len(early) != len(parts)-1 {
		return // more than that happened to it
	}
	if again := j.before(made, "acquiring again", "rekey"); again != nil {
		if old := ended(by[again.session], "superseded", "superseded"); old != nil {
			j.count("rekeys "+asker+" > "+peer, append(append(parts, again), old...))
		}
		return
	}
	flow, _, _ := strings.Cut(find(its, "", "grant", asker+">"+peer).rest, ", ")
	if held := j.before(made, "holding a packet", flow); held != nil {
		if end := ended(its, "closed by the peer", "idle"); end != nil {
			j.count("first packets "+asker+" > "+peer+", closed idle", append(append(parts, held), end...))
		}
	}
}

// count folds happenings into one number.
func (j *journal) count(what string, list []*happening) {
	for _, h := range list {
		h.folded = true
	}
	j.tally(list[0].at, what, 1)
}

func find(list []*happening, who, what, peer string) *happening {
	for _, h := range list {
		if (who == "" || h.who == who) && h.what == what && h.peer == peer {
			return h
		}
	}
	return nil
}

// before is what the host said a moment before it installed a session, for the same peer or for none.
func (j *journal) before(made *happening, what, rest string) *happening {
	at, _ := slices.BinarySearchFunc(j.list, made.at-soon, func(h happening, t time.Duration) int { return int(h.at - t) })
	for i := at; i < len(j.list) && j.list[i].at <= made.at; i++ {
		h := &j.list[i]
		if h.who == made.who && h.what == what && (h.peer == made.peer || h.peer == "") && strings.HasPrefix(h.rest, rest) && !h.folded {
			return h
		}
	}
	return nil
}

// ended are the two ends of a session, in this order and soon after each other; nil where it ended in another way.
func ended(its []*happening, first, second string) []*happening {
	ends := slices.DeleteFunc(slices.Clone(its), func(h *happening) bool { return h.what != "destroyed a session" })
	if len(ends) != 2 || ends[0].rest != first || ends[1].rest != second || ends[0].who == ends[1].who ||
		ends[1].at-ends[0].at > 3*soon {
		return nil
	}
	return ends
}

// foldRenewals: a welcome where there was a connection, and the KDC's line about it.
func (j *journal) foldRenewals() {
	connected := map[[2]string]bool{}
	for i := range j.list {
		h := &j.list[i]
		link := [2]string{h.who, h.peer}
		switch h.what {
		case "restarted":
			maps.DeleteFunc(connected, func(l [2]string, _ bool) bool { return l[0] == h.who })
		case "lost the connection to a KDC":
			delete(connected, link)
		case "welcomed by a KDC":
			if online := j.online(h); connected[link] && online != nil {
				j.count("renewals of control connections", []*happening{h, online})
			}
			connected[link] = true
		}
	}
}

// online is a KDC's line about a connection whose welcome has come a moment later.
func (j *journal) online(welcome *happening) *happening {
	for i := range j.list {
		h := &j.list[i]
		if h.what == "online" && h.peer == welcome.who && !h.folded && h.at <= welcome.at && welcome.at-h.at < soon {
			return h
		}
	}
	return nil
}
