package e2e

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestNarrowStorm changes policy at random at either of two KDCs, whose watches of the store are held back, which restart
// and lose their connections, while one SSM talks to another. Once all is calm the two sides of every session carry the
// same flows, none that policy denies, and what policy permits goes through.
func TestNarrowStorm(t *testing.T) {
	for seed := range uint64(15) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := storm{
					world: newWorld(t, twoKDCs, everything, "ana", "db"), random: rand.New(rand.NewPCG(seed, 1)),
					up: [2]bool{true, true},
				}
				s.change(0)
				for range 40 {
					s.step()
				}
				s.calm()
				s.check()
			})
		})
	}
}

// storm is the state of one. At least one KDC is up and follows the store.
type storm struct {
	*world
	random    *rand.Rand
	up        [2]bool
	held      [2]func() // lets go of the store's watch; nil where it is not held
	permitted []string
}

func (s *storm) well(i int) bool { return s.up[i] && s.held[i] == nil }

func (s *storm) step() {
	i := s.random.IntN(2)
	switch s.random.IntN(7) {
	case 0, 1, 2:
		if s.well(i) {
			s.change(i)
		}
	case 3:
		if s.held[i] != nil {
			s.held[i]()
			s.held[i] = nil
		} else if s.well(1 - i) {
			s.held[i] = s.centers[i].watch.hold()
		}
	case 4:
		if !s.up[i] {
			s.centers[i].start()
			s.up[i] = true
		} else if s.well(1 - i) {
			s.centers[i].stop()
			s.up[i] = false
		}
	case 5:
		s.network.Cut(s.centers[i].address)
	case 6:
		host := s.hosts[s.random.IntN(2)].name
		s.delay(s.centers[i].name, host, time.Duration(s.random.IntN(100))*time.Millisecond)
	}
	ana, db := dns(s.world)
	for _, port := range []uint16{53, 54, 56, 99} {
		ana.send(ana.packet(db, port, "storm", false))
	}
	time.Sleep(time.Duration(s.random.IntN(1500)) * time.Millisecond)
}

// change applies a policy at a KDC.
func (s *storm) change(at int) {
	var list []string
	s.permitted = nil
	for _, service := range []string{"udp/53", "udp/54", "udp/55-57", "icmp", "tcp/22"} {
		if s.random.IntN(3) > 0 {
			list, s.permitted = append(list, "ana > db "+service), append(s.permitted, service)
		}
	}
	if _, err := s.centers[at].ApplyPolicy(s.t.Context(), []byte(grants(list...)), nil, ""); err != nil {
		s.t.Error(err)
	}
}

func (s *storm) calm() {
	for i, free := range s.held {
		if free != nil {
			free()
		}
		if !s.up[i] {
			s.centers[i].start()
		}
	}
	time.Sleep(15 * time.Second)
	for _, h := range s.hosts {
		h.connected()
	}
	time.Sleep(5 * time.Second)
}

func (s *storm) check() {
	ana, db := dns(s.world)
	for _, one := range ana.status().Sessions {
		for _, other := range db.status().Sessions {
			if one.ID == other.ID && !slices.Equal(one.Selectors, other.Selectors) {
				s.t.Errorf("session %s carries %v at one side, %v at the other", one.ID, one.Selectors, other.Selectors)
			}
		}
	}
	for _, h := range s.hosts {
		for _, x := range h.status().Sessions {
			for _, selector := range x.Selectors {
				if f := strings.Fields(selector); !slices.Contains(s.permitted, f[len(f)-1]) {
					s.t.Errorf("%s carries %s, policy permits %v", h.name, selector, s.permitted)
				}
			}
		}
	}
	for port, service := range map[uint16]string{53: "udp/53", 54: "udp/54", 56: "udp/55-57", 99: "none"} {
		text := fmt.Sprintf("calm %d.", port)
		ana.send(ana.packet(db, port, text, false))
		time.Sleep(3 * time.Second)
		if got, want := db.heard(text) > 0, slices.Contains(s.permitted, service); got != want {
			s.t.Errorf("port %d arrives: %v, policy permits %v", port, got, s.permitted)
		}
	}
}
