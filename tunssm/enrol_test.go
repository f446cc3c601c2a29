package tunssm

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"ssmnet/packet/control"
	"ssmnet/packet/secret"
	"ssmnet/tunssm/fake"
)

// enrolment is a KDC with one token out, and what redeeming it gives.
type enrolment struct {
	kdc   *center
	host  *fake.Host
	token control.Token
	grant control.EnrolGrant
	saved []control.Identity
	fail  error // of save
}

func inEnrolment(t *testing.T, test func(t *testing.T, e *enrolment)) {
	synctest.Test(t, func(t *testing.T) {
		n := fake.NewNetwork()
		e := &enrolment{kdc: newCenter(t, n, kdcAddress(1)), host: n.Host(underlay(1))}
		e.token = control.Token{
			Name: "a", KeyID: control.NewKeyID(), Key: secret.NewKey(), KDCs: []string{kdcAddress(0), kdcAddress(1)},
		}
		key := secret.NewKey()
		e.grant = control.EnrolGrant{Name: "a", KeyID: control.NewKeyID(), Key: key.Bytes(), KDCs: []string{kdcAddress(1)}}
		e.kdc.keys[e.token.KeyID] = member{name: "token", key: e.token.Key}
		e.kdc.keys[e.grant.KeyID] = member{name: "a", key: key, config: control.Config{
			Name: "a", Addresses: []netip.Addr{in4(1)},
		}}
		e.kdc.set(func(s *script) {
			s.reply = func(l *line, env control.Envelope) bool {
				if _, ok := env.Message.(*control.Enrol); ok {
					g := e.grant
					l.conn.Send(env.ID, &g)
					return true
				}
				return false
			}
		})
		test(t, e)
	})
}

func (e *enrolment) enrol(t *testing.T) (control.Config, error) {
	return Enrol(t.Context(), e.host.Dial, e.token, "test", func(id control.Identity) error {
		e.saved = append(e.saved, id)
		return e.fail
	})
}

// TestEnrol redeems at the second KDC of the token, the first being away, and says Hello under the new key.
func TestEnrol(t *testing.T) {
	inEnrolment(t, func(t *testing.T, e *enrolment) {
		want := slices.Clone(e.grant.Key)
		config, err := e.enrol(t)
		if err != nil || config.Name != "a" || len(config.Addresses) != 1 {
			t.Fatalf("%+v, %v", config, err)
		}
		if len(e.saved) != 1 {
			t.Fatalf("saved %d times", len(e.saved))
		}
		id := e.saved[0]
		if id.Name != "a" || id.KeyID != e.grant.KeyID || !slices.Equal(id.Key.Bytes(), want) ||
			!slices.Equal(id.KDCs, []string{kdcAddress(1)}) {
			t.Fatalf("identity of %s, KDCs %v", id.Name, id.KDCs)
		}
		hellos := heard[*control.Hello](e.kdc, "a")
		if len(hellos) != 1 || hellos[0].Software != "test" {
			t.Fatalf("%d Hellos", len(hellos))
		}
	})
}

// TestEnrolKeepsTokenKDCs: where the grant names no KDCs, those of the token serve.
func TestEnrolKeepsTokenKDCs(t *testing.T) {
	inEnrolment(t, func(t *testing.T, e *enrolment) {
		e.grant.KDCs = nil
		if _, err := e.enrol(t); err != nil || !slices.Equal(e.saved[0].KDCs, e.token.KDCs) {
			t.Fatalf("KDCs %v, %v", e.saved[0].KDCs, err)
		}
	})
}

func TestEnrolFails(t *testing.T) {
	full := errors.New("disk full")
	tests := []struct {
		name   string
		given  func(e *enrolment)
		is     error
		says   string
		saved  int
		hellos int
	}{
		{"save fails", func(e *enrolment) { e.fail = full }, full, "", 1, 0},
		{"another name", func(e *enrolment) { e.grant.Name = "b" }, control.ErrMalformed, "another peer", 0, 0},
		{"short key", func(e *enrolment) { e.grant.Key = e.grant.Key[:16] }, nil, kdcAddress(1), 0, 0},
		{"dead token", func(e *enrolment) { e.token.KeyID[0]++ }, control.ErrHandshake, kdcAddress(1), 0, 0},
		{"wrong key", func(e *enrolment) { e.token.Key = secret.NewKey() }, control.ErrHandshake, kdcAddress(1), 0, 0},
		{"no KDC", func(e *enrolment) { e.token.KDCs = e.token.KDCs[:1] }, nil, "connection refused", 0, 0},
		{"refused", func(e *enrolment) {
			e.kdc.set(func(s *script) {
				s.reply = func(l *line, env control.Envelope) bool {
					l.conn.Send(env.ID, &control.Refusal{Refused: env.Message.Type(), Reason: control.Suspended})
					return true
				}
			})
		}, errRefusedHello, "peer suspended", 0, 0},
		{"answer of another kind", func(e *enrolment) {
			e.kdc.set(func(s *script) {
				s.reply = func(l *line, env control.Envelope) bool { l.conn.Send(env.ID, &control.Ping{}); return true }
			})
		}, control.ErrMalformed, "type 20", 0, 0},
		{"not welcomed", func(e *enrolment) { e.kdc.set(func(s *script) { s.refuse = control.Conflict }) },
			errRefusedHello, "the identity is written", 1, 1},
		{"silent after redeeming", func(e *enrolment) { e.kdc.set(func(s *script) { s.silent = true }) },
			control.ErrClosed, "the identity is written", 1, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inEnrolment(t, func(t *testing.T, e *enrolment) {
				tt.given(e)
				_, err := e.enrol(t)
				if err == nil || tt.is != nil && !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.says) {
					t.Errorf("%v, want %v with %q", err, tt.is, tt.says)
				}
				if errors.Is(err, ErrIntroduce) != (tt.hellos > 0) {
					t.Errorf("%v: is it of the introduction?", err)
				}
				if len(e.saved) != tt.saved || len(heard[*control.Hello](e.kdc, "a")) != tt.hellos {
					t.Errorf("saved %d times, %d Hellos", len(e.saved), len(heard[*control.Hello](e.kdc, "a")))
				}
			})
		})
	}
}
