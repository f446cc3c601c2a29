package store

import (
	"encoding/binary"
	"fmt"
	"hash/crc64"

	"go.etcd.io/bbolt"
)

// The file is a bbolt database with two buckets:
//
//	ssmnet.store/v1    "head" -> revision(64) sum(64) check(64)
//	entries            key    -> revision(64) sum(64) value
//
// Numbers are big-endian. bbolt has no checksums of its own but on its root; these find a page gone bad, and one of an
// older state left in place of a newer: an entry's sum is the CRC-64 (ECMA) of key length(64), key, revision and value,
// the head's is the sum of all entries' modulo 2^64, and check is the CRC-64 of the 16 bytes before it. They defend
// against accidents, not against somebody who may write the file.
var (
	headBucket    = []byte("ssmnet.store/v1")
	headKey       = []byte("head")
	entriesBucket = []byte("entries")
)

const (
	headSize   = 24
	recordHead = 16 // bytes in front of the value
)

var table = crc64.MakeTable(crc64.ECMA)

type head struct {
	revision Revision
	sum      uint64
}

func readHead(tx *bbolt.Tx) (head, error) {
	b := tx.Bucket(headBucket).Get(headKey)
	if len(b) != headSize || crc64.Checksum(b[:16], table) != binary.BigEndian.Uint64(b[16:]) {
		return head{}, fmt.Errorf("%w: its head does not match its checksum", ErrDamaged)
	}
	return head{Revision(binary.BigEndian.Uint64(b)), binary.BigEndian.Uint64(b[8:])}, nil
}

func writeHead(tx *bbolt.Tx, h head) error {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, headSize), uint64(h.revision))
	b = binary.BigEndian.AppendUint64(b, h.sum)
	b = binary.BigEndian.AppendUint64(b, crc64.Checksum(b, table))
	return tx.Bucket(headBucket).Put(headKey, b)
}

// record is what stands under a key. The zero record stands for none.
type record struct {
	revision Revision
	sum      uint64
	value    []byte
}

func newRecord(key []byte, revision Revision, value []byte) record {
	return record{revision: revision, sum: sumOf(key, revision, value), value: value}
}

func sumOf(key []byte, revision Revision, value []byte) uint64 {
	var b [8]byte
	sum := crc64.Update(0, table, binary.BigEndian.AppendUint64(b[:0], uint64(len(key))))
	sum = crc64.Update(sum, table, key)
	sum = crc64.Update(sum, table, binary.BigEndian.AppendUint64(b[:0], uint64(revision)))
	return crc64.Update(sum, table, value)
}

func (r record) marshal() []byte {
	b := make([]byte, 0, recordHead+len(r.value))
	b = binary.BigEndian.AppendUint64(b, uint64(r.revision))
	b = binary.BigEndian.AppendUint64(b, r.sum)
	return append(b, r.value...)
}

// parseRecord borrows b.
func parseRecord(key, b []byte) (record, error) {
	if len(b) < recordHead {
		return record{}, fmt.Errorf("%w: the entry %q is cut short", ErrDamaged, key)
	}
	r := newRecord(key, Revision(binary.BigEndian.Uint64(b)), b[recordHead:])
	if r.revision == 0 || r.sum != binary.BigEndian.Uint64(b[8:]) {
		return record{}, fmt.Errorf("%w: the entry %q does not match its checksum", ErrDamaged, key)
	}
	return r, nil
}

// getRecord returns the zero record where there is no such key.
func getRecord(entries *bbolt.Bucket, key string) (record, error) {
	b := entries.Get([]byte(key))
	if b == nil {
		return record{}, nil
	}
	return parseRecord([]byte(key), b)
}
