package tunssm

// What an operator may ask of a session.

// Rekey acquires a session with the peer anew, as if its rekey were due; the present one goes on until then. It returns
// once that has begun. The error is ErrNotFound where there is no session.
func (s *SSM) Rekey(peer string) error {
	return s.command(peer, func(a *acquirer, x *session) {
		x.asked = 0
		a.replace(x, x.age(), "asked by an operator")
	})
}

// CloseSession ends the session with the peer in agreement; the next packet acquires another. The error is ErrNotFound
// where there is no session.
func (s *SSM) CloseSession(peer string) error {
	return s.command(peer, func(a *acquirer, x *session) { a.retire(x, "closed by an operator") })
}

// command runs f with the session that this side sends on.
func (s *SSM) command(peer string, f func(*acquirer, *session)) error {
	return s.onAcquirer(func(a *acquirer) error {
		if p := a.peers[peer]; p != nil {
			if x := p.sending.Load(); x != nil {
				f(a, x)
				return nil
			}
		}
		return ErrNotFound
	})
}

// onAcquirer runs f on the acquirer's goroutine and waits for it.
func (s *SSM) onAcquirer(f func(*acquirer) error) error {
	done := make(chan error, 1)
	if !s.data.toAcquirer(func(a *acquirer) { done <- f(a) }) {
		return ErrEnded
	}
	select {
	case err := <-done:
		return err
	case <-s.data.ended:
		return ErrEnded
	}
}
