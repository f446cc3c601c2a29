package store

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io"
)

// bbolt maps its file and follows what it finds there; on a file cut short or gone bad that ends in SIGBUS, a panic or
// an endless loop. verify therefore walks the whole file first, by plain reads that trust nothing. The format, in the
// machine's byte order (go.etcd.io/bbolt, internal/common: page.go, meta.go, bucket.go):
//
//	page      id(64) flags(16) count(16) overflow(32), then by flags; it spans 1+overflow pages of the file
//	meta      pages 0 and 1: magic(32) version(32) page size(32) flags(32) root page(64) sequence(64) freelist page(64)
//	          pages in use(64) transaction(64) FNV-1a of the 56 bytes before(64). The later valid one counts.
//	freelist  count page numbers(64); where count is 65535 the first of them is the count
//	branch    count of { position(32) key size(32) page(64) }, each key at its element + position
//	leaf      count of { flags(32) position(32) key size(32) value size(32) }, likewise, the value behind the key
//	bucket    the value of a leaf element with flag 1: root page(64) sequence(64); root 0: a leaf page follows within
const (
	pageHead    = 16
	metaSize    = 64
	elementSize = 16
	bucketSize  = 16

	metaMagic   = 0xED0CDAED
	metaVersion = 2

	minPage, maxPage = 1 << 10, 1 << 24

	flagBranch   = 1
	flagLeaf     = 2
	flagFreelist = 16

	// maxDepth is more than any tree has: every branch has at least two children, but for a few left by deletions.
	maxDepth = 64
)

var order = binary.NativeEndian

// file is a bbolt database under verification.
type file struct {
	r    io.ReaderAt
	size int64
	meta        // the one that counts; its pages are all inside the file
	seen []bool // by page: part of something already visited
}

// page is one page with its overflow, or one inside a bucket's value.
type page struct {
	flags uint16
	count int
	b     []byte // all of it, head included
}

// verify returns ErrForeign for what never was a bbolt file, ErrDamaged for what is one no longer.
func verify(r io.ReaderAt, size int64) error {
	f := &file{r: r, size: size}
	if err := f.readMeta(); err != nil {
		return err
	}
	if err := f.readFreelist(); err != nil {
		return err
	}
	return f.tree(f.root, nil, nil, 0)
}

func damaged(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrDamaged}, args...)...)
}

// meta is what a meta page says.
type meta struct {
	bolt, valid                        bool // its magic is bbolt's; all of it is as written
	pageSize                           int64
	root, freelist, pages, transaction uint64
}

func (f *file) metaAt(offset int64) meta {
	b := make([]byte, pageHead+metaSize)
	n, _ := f.r.ReadAt(b, offset) // what is missing stays zero, and then the checksum fails
	b = b[pageHead:]
	sum := fnv.New64a()
	sum.Write(b[:56])
	m := meta{
		bolt:     n >= pageHead+4 && order.Uint32(b) == metaMagic,
		pageSize: int64(order.Uint32(b[8:])),
		root:     order.Uint64(b[16:]), freelist: order.Uint64(b[32:]), pages: order.Uint64(b[40:]),
		transaction: order.Uint64(b[48:]),
	}
	m.valid = m.bolt && order.Uint32(b[4:]) == metaVersion && order.Uint64(b[56:]) == sum.Sum64()
	return m
}

// readMeta finds the later valid meta page. Either may be bad after a power cut.
func (f *file) readMeta() error {
	if f.size == 0 {
		return damaged("it is empty")
	}
	first := f.metaAt(0)
	second := first
	if first.valid {
		second = f.metaAt(first.pageSize)
	} else { // its place tells the page size, which bbolt looks for in the same way
		for at := int64(minPage); at <= maxPage && !second.valid; at <<= 1 {
			second = f.metaAt(at)
		}
	}
	if !first.bolt && !second.bolt {
		return fmt.Errorf("%w: not a bbolt database", ErrForeign)
	}
	m := first
	if second.valid && (!first.valid || second.transaction > first.transaction) {
		m = second
	}
	switch {
	case !m.valid:
		return damaged("neither of its two roots is valid")
	case m.pageSize < minPage, m.pageSize > maxPage, m.pageSize&(m.pageSize-1) != 0,
		first.valid && second.valid && first.pageSize != second.pageSize:
		return damaged("its page size is %d", m.pageSize)
	case m.pages < 4 || m.pages > uint64(f.size/m.pageSize):
		return damaged("it has %d bytes but should have %d pages of %d", f.size, m.pages, m.pageSize)
	}
	f.meta = m
	f.seen = make([]bool, f.pages)
	f.seen[0], f.seen[1] = true, true
	return nil
}

// readPage reads a page that nothing else may refer to, with its overflow.
func (f *file) readPage(id uint64) (page, error) {
	if id < 2 || id >= f.pages {
		return page{}, damaged("a reference to page %d of %d", id, f.pages)
	}
	var h [pageHead]byte
	at := int64(id) * f.pageSize
	if _, err := f.r.ReadAt(h[:], at); err != nil {
		return page{}, damaged("page %d: %w", id, err)
	}
	span := uint64(order.Uint32(h[12:])) + 1
	if order.Uint64(h[:]) != id || span > f.pages-id {
		return page{}, damaged("page %d is not itself", id)
	}
	for i := id; i < id+span; i++ {
		if f.seen[i] {
			return page{}, damaged("page %d is in use twice", i)
		}
		f.seen[i] = true
	}
	b := make([]byte, int64(span)*f.pageSize)
	if _, err := f.r.ReadAt(b, at); err != nil {
		return page{}, damaged("page %d: %w", id, err)
	}
	return parsePage(b), nil
}

func parsePage(b []byte) page {
	return page{flags: order.Uint16(b[8:]), count: int(order.Uint16(b[10:])), b: b}
}

// readFreelist marks the free pages as seen, so that one still in use is found out: it would be overwritten.
func (f *file) readFreelist() error {
	if f.freelist == ^uint64(0) {
		return nil // written without one, which bbolt then makes anew
	}
	p, err := f.readPage(f.freelist)
	if err != nil {
		return err
	}
	ids := p.b[pageHead:]
	count := uint64(p.count)
	if count == 0xFFFF {
		count, ids = order.Uint64(ids), ids[8:]
	}
	if p.flags != flagFreelist || count > uint64(len(ids)/8) {
		return damaged("page %d is not its list of free pages", f.freelist)
	}
	for i := range count {
		id := order.Uint64(ids[8*i:])
		if id < 2 || id >= f.pages || f.seen[id] {
			return damaged("page %d cannot be free", id)
		}
		f.seen[id] = true
	}
	return nil
}

// tree verifies a page and all below it. Its first key must be low (if any), for by that bbolt finds a page's place in
// its parent. All must be below high (if any).
func (f *file) tree(id uint64, low, high []byte, depth int) error {
	if depth > maxDepth {
		return damaged("page %d lies too deep", id)
	}
	p, err := f.readPage(id)
	if err != nil {
		return err
	}
	switch p.flags {
	case flagLeaf:
		return f.leaf(p, low, high, depth)
	case flagBranch:
		return f.branch(p, low, high, depth)
	}
	return damaged("page %d is of an unknown kind", id)
}

func (f *file) branch(p page, low, high []byte, depth int) error {
	if p.count == 0 {
		return damaged("a branch without children")
	}
	keys := make([][]byte, p.count)
	for i := range keys {
		e := p.element(i)
		if e == nil {
			return damaged("a page ends within its elements")
		}
		if keys[i] = p.data(i, order.Uint32(e), uint64(order.Uint32(e[4:]))); keys[i] == nil {
			return damaged("a key lies outside its page")
		}
	}
	if err := ordered(keys, low, high); err != nil {
		return err
	}
	for i, key := range keys {
		end := high
		if i+1 < len(keys) {
			end = keys[i+1]
		}
		if err := f.tree(order.Uint64(p.element(i)[8:]), key, end, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (f *file) leaf(p page, low, high []byte, depth int) error {
	keys := make([][]byte, p.count)
	for i := range keys {
		e := p.element(i)
		if e == nil {
			return damaged("a page ends within its elements")
		}
		flags, keySize := order.Uint32(e), order.Uint32(e[8:])
		both := p.data(i, order.Uint32(e[4:]), uint64(keySize)+uint64(order.Uint32(e[12:])))
		if both == nil || flags > 1 {
			return damaged("an entry lies outside its page")
		}
		keys[i] = both[:keySize:keySize]
		if flags == 1 {
			if err := f.bucket(both[keySize:], depth); err != nil {
				return err
			}
		}
	}
	return ordered(keys, low, high)
}

// bucket verifies a bucket that is the value of an entry.
func (f *file) bucket(value []byte, depth int) error {
	if len(value) < bucketSize {
		return damaged("a bucket is cut short")
	}
	if root := order.Uint64(value); root != 0 {
		return f.tree(root, nil, nil, depth+1)
	}
	b := value[bucketSize:]
	if len(b) < pageHead || depth > maxDepth {
		return damaged("a bucket is cut short")
	}
	p := parsePage(b)
	if p.flags != flagLeaf {
		return damaged("a bucket is not made of entries")
	}
	return f.leaf(p, nil, nil, depth+1)
}

// element returns the i-th element of a branch or leaf, or nil where the page is too short.
func (p page) element(i int) []byte {
	at := pageHead + i*elementSize
	if at+elementSize > len(p.b) {
		return nil
	}
	return p.b[at : at+elementSize]
}

// data returns what lies at a position relative to the i-th element, or nil where that is not behind all elements and
// inside the page.
func (p page) data(i int, position uint32, size uint64) []byte {
	start := uint64(pageHead+i*elementSize) + uint64(position)
	if start < uint64(pageHead+p.count*elementSize) || start+size > uint64(len(p.b)) {
		return nil
	}
	return p.b[start : start+size : start+size]
}

// ordered says that keys ascend strictly, from low (if any; exactly) up to, not including, high (if any).
func ordered(keys [][]byte, low, high []byte) error {
	if low != nil && (len(keys) == 0 || !bytes.Equal(keys[0], low)) {
		return damaged("a page does not begin as its parent says")
	}
	for i, key := range keys {
		if i > 0 && bytes.Compare(key, keys[i-1]) <= 0 || high != nil && bytes.Compare(key, high) >= 0 {
			return damaged("keys are out of order")
		}
	}
	return nil
}
