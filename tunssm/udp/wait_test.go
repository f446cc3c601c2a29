package udp

import (
	"golang.org/x/sys/unix"

	"ssmnet/packet"
)

// Receive is TryReceive that waits.
func (c *Conn) Receive() ([]packet.Datagrams, error) {
	for {
		if got, err := c.TryReceive(); len(got) > 0 || err != nil {
			return got, err
		}
		if err := c.raw.Wait(unix.POLLIN, -1); err != nil {
			return nil, err
		}
	}
}
