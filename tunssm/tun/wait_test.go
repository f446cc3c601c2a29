package tun

import "golang.org/x/sys/unix"

// ReadFrame is TryReadFrame that waits.
func (q *Queue) ReadFrame(b []byte) (int, error) {
	for {
		n, err := q.TryReadFrame(b)
		if n > 0 || err != nil {
			return n, err
		}
		if err := q.raw.Wait(unix.POLLIN, -1); err != nil {
			return 0, q.refusal(err)
		}
	}
}
