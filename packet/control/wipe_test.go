package control

import (
	"bytes"
	"testing"
)

// TestReceivedKeysAreWiped: nothing of a message stays in the memory into which its record was read.
func TestReceivedKeysAreWiped(t *testing.T) {
	client, server := pair(t)
	key := filled(32, 0x51)
	if err := client.Send(0, &RotateKey{KeyID: NewKeyID(), Key: bytes.Clone(key)}); err != nil {
		t.Fatal(err)
	}
	e, err := server.Receive()
	if m, ok := e.Message.(*RotateKey); !ok || !bytes.Equal(m.Key, key) {
		t.Fatalf("received %+v, %v", e, err)
	}
	if bytes.Contains(server.record[:cap(server.record)], key[:8]) {
		t.Error("the key is still in the record")
	}
}
