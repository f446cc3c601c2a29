package tunssm

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ssmnet/packet/control"
	"ssmnet/packet/secret"
)

// TestNoKeyIsLogged: through a life with rotation, sessions and their end, no line at any level shows a key in any form.
func TestNoKeyIsLogged(t *testing.T) {
	inWorld(t, 1, []string{"a", "b"}, func(t *testing.T, w *world) {
		var text bytes.Buffer
		a, kdc, next := w.stations["a"], w.kdcs[0], secret.NewKey()
		every := &slog.HandlerOptions{Level: slog.LevelDebug}
		a.in(func(acq *acquirer) {
			acq.log = slog.New(slog.NewMultiHandler(slog.NewTextHandler(&text, every), slog.NewJSONHandler(&text, every)))
		})
		keys := [][]byte{a.identity.Key.Bytes(), next.Bytes()}
		keep := func(k []byte) { keys = append(keys, bytes.Clone(k)) }
		kdc.set(func(s *script) {
			s.grant = func(g *control.KeyGrant) { keep(g.K) }
			s.offer = func(o *control.KeyOffer) { keep(o.K) }
		})
		s, _ := w.connect("a", "b")
		w.connect("b", "a")
		kdc.tell("a", &control.RotateKey{KeyID: control.NewKeyID(), Key: bytes.Clone(next.Bytes())})
		time.Sleep(time.Second)
		kdc.tell("a", &control.Revoke{Sessions: []control.SessionID{s.id}, Reason: control.Operator})
		synctest.Wait()
		a.in(func(*acquirer) {
			if len(keys) < 4 || !strings.Contains(text.String(), "rotating") {
				t.Fatalf("%d keys, and the log is\n%s", len(keys), &text)
			}
			for _, k := range keys {
				k = k[:16]
				for _, form := range []string{
					string(k), hex.EncodeToString(k), base64.StdEncoding.EncodeToString(k)[:20],
					strings.Trim(fmt.Sprint(k), "[]"), strings.Trim(fmt.Sprintf("%q", k), `"`),
				} {
					if strings.Contains(text.String(), form) {
						t.Errorf("the log shows a key: %s", form)
					}
				}
			}
		})
	})
}
