package control_test

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

// The messages, read by the tables of the package doc and by nothing else.

type specField struct{ name, typ string }

// specTable is a line of the doc: a message's body, or a struct.
type specTable struct {
	number uint64 // of a message; zero for a struct
	fields []specField
	array  bool
}

type specTables map[string]specTable

var (
	specMessageLine = regexp.MustCompile(`^[ \d]\d ([A-Z]\w+) *(.*)$`)
	specArrayLine   = regexp.MustCompile(`^([A-Z]\w+)  +\[(.+)\]$`)
	specMapLine     = regexp.MustCompile(`^([A-Z]\w+)  +([A-Z]\w*[, ].+)$`)
)

// specSection is a section of doc.go, its lines without "// ".
func specSection(title string) []string {
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		panic(err)
	}
	_, text, ok := strings.Cut(string(doc), "\n// # "+title+"\n")
	if !ok {
		panic("doc.go has no section " + title)
	}
	text, _, _ = strings.Cut(text, "\n// # ")
	return strings.Split(text, "\n")
}

func specReadTables() specTables {
	var lines []string
	for _, line := range specSection("Messages") {
		line, ok := strings.CutPrefix(line, "//\t")
		if ok && strings.HasPrefix(line, "       ") && len(lines) > 0 && strings.HasSuffix(lines[len(lines)-1], ",") {
			lines[len(lines)-1] += " " + strings.TrimSpace(line)
		} else if ok {
			lines = append(lines, line)
		}
	}
	tables := specTables{}
	for _, line := range lines {
		if m := specMessageLine.FindStringSubmatch(line); m != nil {
			n, _ := strconv.ParseUint(strings.TrimSpace(line[:2]), 10, 8)
			tables[m[1]] = specTable{number: n, fields: specFields(m[2])}
		} else if m := specArrayLine.FindStringSubmatch(line); m != nil {
			tables[m[1]] = specTable{fields: specFields(m[2]), array: true}
		} else if m := specMapLine.FindStringSubmatch(line); m != nil {
			tables[m[1]] = specTable{fields: specFields(m[2])}
		}
	}
	return tables
}

func specFields(s string) (fields []specField) {
	for part := range strings.SplitSeq(s, ", ") {
		if name, typ, typed := strings.Cut(part, " "); typed {
			fields = append(fields, specField{name, typ})
		} else if name != "" {
			fields = append(fields, specField{name, name})
		}
	}
	return fields
}

// errSpecMay is what a receiver may take or refuse.
var errSpecMay = errors.New("neither right nor to be refused")

// specMessage is a message as it stands in CBOR, with every field there is.
type specMessage struct {
	name string // empty for a type that is not known
	typ  uint64
	id   uint64
	body any
}

func (m specMessage) encode() []byte { return specEncode([]any{m.typ, m.id, m.body}) }

func (t specTables) message(b []byte) (m specMessage, err error) {
	v, err := specDecode(b)
	if err != nil {
		return m, err
	}
	outer, ok := v.([]any)
	if v == nil {
		return m, errSpecMay
	}
	if !ok || len(outer) != 3 {
		return m, specMalformed("not an array of three")
	}
	for i, to := range []*uint64{&m.typ, &m.id} {
		n, err := t.value([]string{"u8", "u64"}[i], outer[i], "")
		if err != nil {
			return m, err
		}
		*to = n.(uint64)
	}
	for name, table := range t {
		if table.number == m.typ && m.typ != 0 {
			m.name = name
			m.body, err = t.value(name, outer[2], name)
		}
	}
	return m, err
}

// value holds v against a type; in is the message or struct that it stands in.
func (t specTables) value(typ string, v any, in string) (any, error) {
	if element, ok := strings.CutPrefix(typ, "?"); ok {
		if v == nil {
			return nil, nil
		}
		typ = element
	}
	if v == nil {
		return nil, errSpecMay
	}
	if element, ok := strings.CutPrefix(typ, "[]"); ok {
		return t.list(element, v, in)
	}
	if table, ok := t[typ]; ok {
		return t.structure(typ, table, v)
	}
	other := specMalformed(fmt.Sprintf("%T for %s", v, typ))
	switch v := v.(type) {
	case uint64:
		bits, err := strconv.Atoi(typ[1:])
		if err == nil && (typ[0] == 'u' && (bits == 64 || v>>bits == 0) || typ[0] == 'i' && v <= math.MaxInt64) {
			return v, nil
		}
	case specNegative:
		if typ == "i64" && v <= math.MaxInt64 {
			return v, nil
		}
	case bool:
		if typ == "bool" {
			return v, nil
		}
	case string:
		if typ == "text" {
			return v, nil
		}
	case []byte:
		switch typ {
		case "bytes":
			return v, nil
		case "b8", "b16":
			if strconv.Itoa(len(v)) == typ[1:] {
				return v, nil
			}
		case "address", "prefix", "candidate":
			return v, specAddressing(typ, v, in)
		}
	case []any, specMap:
		_, list := v.([]any)
		if typ == "address" || typ == "prefix" || typ == "candidate" || list && typ[0] == 'b' && typ != "bool" {
			return nil, errSpecMay
		}
	}
	return nil, other
}

func (t specTables) list(element string, v any, in string) (any, error) {
	list, ok := v.([]any)
	if _, text := v.([]byte); text {
		return nil, errSpecMay
	}
	if !ok {
		return nil, specMalformed("no list")
	}
	var may error
	out := []any{}
	for _, e := range list {
		x, err := t.value(element, e, in)
		if errors.Is(err, errSpecMay) {
			may = err
		} else if err != nil {
			return nil, err
		}
		out = append(out, x)
	}
	return out, may
}

// structure gives back the struct with the fields that were absent, and without those that are unknown.
func (t specTables) structure(name string, table specTable, v any) (any, error) {
	list, isList := v.([]any)
	m, isMap := v.(specMap)
	if isList != table.array || isMap == table.array || table.array && len(list) != len(table.fields) {
		return nil, specMalformed("not as a " + name + " stands")
	}
	var may error
	fields, out, pairs := map[string]any{}, []any{}, specMap{}
	for i, f := range table.fields {
		x, there := any(nil), table.array
		if table.array {
			x = list[i]
		}
		for _, p := range m {
			if p.key == uint64(i+1) {
				x, there = p.value, true
			}
		}
		if !there {
			x = t.zero(f.typ)
		}
		x, err := t.value(f.typ, x, name)
		if errors.Is(err, errSpecMay) {
			may = err
		} else if err != nil {
			return nil, err
		}
		fields[f.name], out = x, append(out, x)
		if name != "Flow" || !strings.HasSuffix(f.name, "Port") || x != uint64(0) {
			pairs = append(pairs, specPair{uint64(i + 1), x})
		}
	}
	if may != nil {
		return nil, may
	}
	if err := specCheck(name, fields); err != nil {
		return nil, err
	}
	if table.array {
		return out, nil
	}
	return pairs, nil
}

// zero is what a field is that is absent.
func (t specTables) zero(typ string) any {
	switch {
	case typ[0] == '?':
		return nil
	case strings.HasPrefix(typ, "[]"):
		return []any{}
	case typ == "bool":
		return false
	case typ == "text":
		return ""
	case typ == "bytes", typ == "address", typ == "prefix":
		return []byte{}
	case typ == "b8":
		return make([]byte, 8)
	case typ == "b16":
		return make([]byte, 16)
	case typ == "candidate":
		return []byte{0, 0}
	case typ[0] == 'u', typ[0] == 'i':
		return uint64(0)
	}
	table := t[typ]
	if !table.array {
		return specMap{}
	}
	list := []any{}
	for _, f := range table.fields {
		list = append(list, t.zero(f.typ))
	}
	return list
}

// specAddressing is the form of an address, prefix or candidate.
func specAddressing(typ string, v []byte, in string) error {
	address, right := v, true
	switch {
	case typ == "candidate" && in == "Reach" && string(v) == "\x00\x00": // Fixed, and there is none
		return nil
	case typ == "candidate" && len(v) >= 2:
		address, right = v[:len(v)-2], v[len(v)-1] != 0 || v[len(v)-2] != 0
	case typ == "prefix" && len(v) > 0:
		address = v[:len(v)-1]
	}
	a, ok := netip.AddrFromSlice(address)
	right = right && ok && !a.Is4In6()
	if typ == "prefix" && right {
		p := netip.PrefixFrom(a, int(v[len(v)-1]))
		right = p.IsValid() && p == p.Masked()
	}
	switch {
	case right:
		return nil
	case in == "LookupReply", typ == "prefix" && len(v) > 17: // that may have a zone
		return errSpecMay
	}
	return specMalformed("no " + typ)
}

var specName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// specCheck are the rules of the section "Malformed" that a table does not show.
func specCheck(name string, f map[string]any) error {
	most := func(field string, n int) bool { list, _ := f[field].([]any); return len(list) <= n }
	named := func(field string) bool { return specName.MatchString(f[field].(string)) }
	right := true
	switch name {
	case "Reach":
		right = most("Addresses", 8)
	case "Config":
		right = most("KDCs", 8)
		for _, a := range f["KDCs"].([]any) {
			right = right && specHostPort(a.(string))
		}
	case "KeyOffer", "KeyGrant", "Endpoint":
		right = most("Candidates", 10)
	case "Revoke":
		right = most("Sessions", 256)
	case "SessionReport":
		right = most("Opened", 256) && most("Closed", 256)
	case "Narrow", "Terms":
		right = most("Selectors", 512)
	case "Party":
		right = named("Name")
	case "SessionEntry":
		right = named("Requester") && named("Responder")
	case "KeyRequest":
		right = f["Flow"] != nil || named("Peer")
	case "Flow":
		right = len(f["Src"].([]byte)) == len(f["Dst"].([]byte))
	case "Hello", "Enrol":
		software := f["Software"].(string)
		right = len(software) <= 128 && !strings.ContainsFunc(software, func(r rune) bool { return !unicode.IsPrint(r) })
	}
	if !right {
		return specMalformed("no " + name)
	}
	return nil
}

func specHostPort(s string) bool {
	i := strings.LastIndexByte(s, ':')
	if i < 1 {
		return false
	}
	host, port := s[:i], s[i+1:]
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return false
	}
	inner, bracketed := strings.CutPrefix(host, "[")
	if bracketed {
		host = strings.TrimSuffix(inner, "]")
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return !bracketed && !strings.ContainsAny(host, ":%[]")
	}
	return bracketed == a.Is6() && a.Zone() == "" && !a.IsLinkLocalUnicast() && !a.IsMulticast() && !a.IsUnspecified()
}
