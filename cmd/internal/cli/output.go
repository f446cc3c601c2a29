package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
)

// OutputFlag is -o table|json, for every command that prints a result.
func OutputFlag() Flag {
	return &StringFlag{
		Name: "output", Aliases: []string{"o"}, Value: "table", Usage: "print `table|json`",
		Action: func(c *Context, v string) error {
			if v != "table" && v != "json" {
				return BadUsage(c, "-o %s: want table or json", v)
			}
			return nil
		},
	}
}

// WantsJSON says that the user asked for -o json.
func WantsJSON(c *Context) bool { return c.String("output") == "json" }

// JSON writes value, which must encode as an object, indented and with the schema ("ssmnet.status/v1") as first key.
func JSON(w io.Writer, schema string, value any) error {
	whole, err := object(schema, value)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if err := json.Indent(&out, whole, "", "  "); err != nil {
		return fmt.Errorf("cli: %s: %w", schema, err)
	}
	out.WriteByte('\n')
	_, err = out.WriteTo(w)
	return err
}

// JSONLine writes value as JSON does, but on one line: one of many.
func JSONLine(w io.Writer, schema string, value any) error {
	whole, err := object(schema, value)
	if err != nil {
		return err
	}
	_, err = w.Write(append(whole, '\n'))
	return err
}

// object encodes value with the schema as first key.
func object(schema string, value any) ([]byte, error) {
	var body bytes.Buffer
	e := json.NewEncoder(&body)
	e.SetEscapeHTML(false) // read by programs and people, never by a browser
	if err := e.Encode(value); err != nil {
		return nil, fmt.Errorf("cli: %s: %w", schema, err)
	}
	encoded := bytes.TrimSpace(body.Bytes())
	if len(encoded) < 2 || encoded[0] != '{' {
		return nil, fmt.Errorf("cli: %s: %T does not encode as an object", schema, value)
	}
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(encoded, &keys); err != nil {
		return nil, fmt.Errorf("cli: %s: %w", schema, err)
	}
	if _, taken := keys["schema"]; taken {
		return nil, fmt.Errorf("cli: %s: %T has a schema of its own", schema, value)
	}
	var whole bytes.Buffer
	fmt.Fprintf(&whole, `{"schema":%q`, schema)
	if len(keys) > 0 {
		whole.WriteByte(',')
	}
	whole.Write(encoded[1:])
	return whole.Bytes(), nil
}

// Table is rows under a header, aligned. Values are never cut short.
type Table struct {
	header []string
	rows   [][]string
}

// NewTable makes a table with these column titles.
func NewTable(header ...string) *Table { return &Table{header: header} }

// Row adds a row, one cell for each column; it panics on another number. An empty cell shows as "-".
func (t *Table) Row(cells ...any) {
	if len(cells) != len(t.header) {
		panic(fmt.Sprintf("cli: a row of %d cells in a table of %d columns", len(cells), len(t.header)))
	}
	row := make([]string, len(cells))
	for i, cell := range cells {
		if row[i] = oneLine(fmt.Sprint(cell), ' '); row[i] == "" {
			row[i] = "-"
		}
	}
	t.rows = append(t.rows, row)
}

// Len is the number of rows.
func (t *Table) Len() int { return len(t.rows) }

// Write writes the table, two blanks between columns and none at the end of a line.
func (t *Table) Write(w io.Writer) error {
	var b bytes.Buffer
	tw := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	for _, row := range append([][]string{t.header}, t.rows...) {
		fmt.Fprintln(tw, strings.Join(row, "\t"))
	}
	tw.Flush() // into memory
	_, err := b.WriteTo(w)
	return err
}

// Age is a duration in its two largest units: 45s, 3m12s, 2h5m, 3d4h. Under a second it is 0s.
func Age(d time.Duration) string {
	s := int64(max(d, 0) / time.Second)
	units := [...]struct {
		name    string
		seconds int64
	}{{"d", 86400}, {"h", 3600}, {"m", 60}, {"s", 1}}
	for i, u := range units {
		if s < u.seconds {
			continue
		}
		text := fmt.Sprintf("%d%s", s/u.seconds, u.name)
		if rest := s % u.seconds; i+1 < len(units) && rest >= units[i+1].seconds {
			text += fmt.Sprintf("%d%s", rest/units[i+1].seconds, units[i+1].name)
		}
		return text
	}
	return "0s"
}

// Latency is a duration to three digits: 870ns, 12.3µs, 1.25ms, 2.50s.
func Latency(d time.Duration) string {
	switch {
	case d < time.Microsecond:
		return fmt.Sprintf("%dns", d.Nanoseconds())
	case d < time.Millisecond:
		return digits(float64(d)/float64(time.Microsecond)) + "µs"
	case d < time.Second:
		return digits(float64(d)/float64(time.Millisecond)) + "ms"
	}
	return digits(d.Seconds()) + "s"
}

// Bytes is a number of bytes in binary units: 512 B, 1.50 KiB, 23.4 MiB.
func Bytes(n uint64) string {
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	v, unit := float64(n)/1024, 0
	for v >= 1023.5 && unit < len(binaryUnits)-1 {
		v, unit = v/1024, unit+1
	}
	return digits(v) + " " + binaryUnits[unit]
}

var binaryUnits = [...]string{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}

// digits is v with three digits, or all of its whole part.
func digits(v float64) string {
	switch {
	case v < 9.995:
		return fmt.Sprintf("%.2f", v)
	case v < 99.95:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}

// PrintLine writes one line of result.
func PrintLine(c *Context, format string, args ...any) error {
	_, err := fmt.Fprintf(c.App.Writer, format+"\n", args...)
	return err
}

// Joined lists values in one cell.
func Joined[T any](values []T) string {
	texts := make([]string, len(values))
	for i, v := range values {
		texts[i] = fmt.Sprint(v)
	}
	return strings.Join(texts, ",")
}
