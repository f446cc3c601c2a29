package main

import (
	"crypto/cipher"
	"encoding/binary"

	"golang.org/x/sys/unix"
)

const (
	lengthLen  = 4       // before a frame: its length
	counterLen = 8       // before a sealed chunk
	maxFrame   = 1 << 16 // what a TUN gives, header included
)

// forwarder moves frames between two blocking descriptors, each direction in a goroutine of its own.
type forwarder struct {
	tun, udp   int
	chunk      int         // bytes in a datagram that does not end its frame
	seal, open cipher.AEAD // nil: chunks go as they are
}

// room is how much of a frame a chunk carries.
func (f *forwarder) room() int {
	if f.seal == nil {
		return f.chunk
	}
	return f.chunk - counterLen - f.seal.Overhead()
}

// outbound ends with the error of the TUN.
func (f *forwarder) outbound() error {
	frame, sealed := make([]byte, lengthLen+maxFrame+1), make([]byte, 2*maxFrame)
	var counter uint64
	for {
		n, err := unix.Read(f.tun, frame[lengthLen:lengthLen+maxFrame])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		binary.BigEndian.PutUint32(frame, uint32(n))
		n += lengthLen
		if n%f.room() == 0 {
			n++
		}
		send := frame[:n]
		if f.seal != nil {
			send, counter = f.sealChunks(sealed[:0], send, counter)
		}
		unix.Write(f.udp, send) // what the network does not take is lost, as on any
	}
}

// sealChunks appends what is sent for the bytes of a frame.
func (f *forwarder) sealChunks(dst, frame []byte, counter uint64) ([]byte, uint64) {
	var nonce [12]byte
	for len(frame) > 0 {
		n := min(f.room(), len(frame))
		counter++
		binary.BigEndian.PutUint64(nonce[4:], counter)
		dst = f.seal.Seal(append(dst, nonce[4:]...), nonce[:], frame[:n], nil)
		frame = frame[n:]
	}
	return dst, counter
}

// inbound ends with the error of the socket.
func (f *forwarder) inbound() error {
	// A frame that was whole when it was sent, but for its end, and a receive: no frame is longer than the first.
	frame, received := make([]byte, 2*maxFrame), make([]byte, maxFrame)
	have := 0
	for {
		into := received
		if f.open == nil {
			into = frame[have : have+maxFrame] // in its place at once
		}
		n, err := unix.Read(f.udp, into)
		if err == unix.ECONNREFUSED || err == unix.EINTR { // the peer was not there yet
			continue
		}
		if err != nil {
			return err
		}
		if f.open == nil {
			have += n
		} else {
			have += f.openChunks(frame[have:have], into[:n])
		}
		if n%f.chunk != 0 || have > maxFrame {
			f.deliver(frame[:have])
			have = 0
		}
	}
}

// openChunks puts what the chunks held into dst and returns how much that is. One that does not open leaves a gap, and
// the frame will be too short.
func (f *forwarder) openChunks(dst, chunks []byte) int {
	var nonce [12]byte
	for len(chunks) > 0 {
		n := min(f.chunk, len(chunks))
		if n > counterLen {
			copy(nonce[4:], chunks)
			if opened, err := f.open.Open(dst, nonce[:], chunks[counterLen:n], nil); err == nil {
				dst = opened
			}
		}
		chunks = chunks[n:]
	}
	return len(dst)
}

// deliver writes a frame of which nothing is missing.
func (f *forwarder) deliver(frame []byte) {
	if len(frame) < lengthLen {
		return
	}
	length, frame := int(binary.BigEndian.Uint32(frame)), frame[lengthLen:]
	if len(frame) == length || len(frame) == length+1 {
		unix.Write(f.tun, frame[:length])
	}
}
