package netns

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// postgres gives the path of one of Debian's PostgreSQL programs, of the newest version that is there.
func postgres(t *testing.T, name string) string {
	t.Helper()
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	if err != nil || len(found) == 0 {
		t.Fatalf("no %s below /usr/lib/postgresql: install Debian's postgresql, as scripts/test.sh does", name)
	}
	slices.Sort(found)
	return found[len(found)-1]
}

// serveDatabase runs PostgreSQL on the host, as an ordinary user and on its own address alone.
func (h *Host) serveDatabase(t *testing.T) {
	t.Helper()
	dir := filepath.Join(h.dir, "database")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	const user = "nobody"
	if out, err := exec.Command("chown", "-R", user, dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	as := []string{"setpriv", "--reuid", user, "--regid", "nogroup", "--clear-groups"}
	h.Run(t, append(as, postgres(t, "initdb"), "-D", dir+"/data", "-U", "admin", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")...)
	hba := "local all all trust\nhost all all 100.64.0.0/10 trust\nhost all all fd00::/8 trust\n"
	if err := os.WriteFile(dir+"/data/pg_hba.conf", []byte(hba), 0o644); err != nil {
		t.Fatal(err)
	}
	p := h.Start(t, append(as, postgres(t, "postgres"), "-D", dir+"/data", "-c", "listen_addresses="+h.V4.String()+","+h.V6.String(),
		"-c", "unix_socket_directories=", "-c", "fsync=off")...)
	t.Cleanup(func() { p.End(t, syscall.SIGINT) }) // killed, it would leave shared memory
	eventually(t, patience, "PostgreSQL serves", func() error {
		if out := h.Run(t, "ss", "-Hlnt", "sport = :5432"); strings.Count(out, "\n") < 2 {
			return fmt.Errorf("it listens on %q", out)
		}
		return nil
	})
}

// psql runs a command of SQL, with standard input from a file where one is given, and gives what it prints.
func (h *Host) psql(t *testing.T, server, sql, stdin string) string {
	t.Helper()
	command := fmt.Sprintf(`exec %s -h %s -U admin -d postgres -v ON_ERROR_STOP=1 -qAtc "%s" <%s`, postgres(t, "psql"), server, sql, stdin)
	r := h.Try(t, "sh", "-c", command)
	if r.Code != 0 {
		t.Fatal(r)
	}
	return r.Stdout
}

// TestPostgreSQL: a database in a network behind a gateway is used through the tunnel, on the grant of its one port: some
// 10 MB go in and come out as they were. Any other port is refused at once.
func TestPostgreSQL(t *testing.T) {
	t.Parallel()
	_, a, _, lan := newGateway(t, nil, toLab("h1", "tcp/5432"))
	lan.serveDatabase(t)
	a.reaches(t, lan)
	const rows = 100_000
	var text strings.Builder
	for i := range rows {
		fmt.Fprintf(&text, "%d\t%0100d\n", i, i*i)
	}
	in := filepath.Join(a.dir, "rows")
	write(t, in, text.String(), 0o600)
	for _, family := range []int{4, 6} {
		began := time.Now()
		server := lan.address(family)
		a.psql(t, server, "drop table if exists stock; create table stock (id bigint primary key, what text)", "/dev/null")
		a.psql(t, server, "copy stock from stdin", in)
		if out := a.psql(t, server, "copy (select * from stock order by id) to stdout", "/dev/null"); out != text.String() {
			t.Errorf("IPv%d: %d bytes came back of %d, or others", family, len(out), text.Len())
		}
		if out := a.psql(t, server, "select count(*), sum(id) from stock", "/dev/null"); out != "100000|4999950000\n" {
			t.Errorf("IPv%d: counted %q", family, out)
		}
		t.Logf("IPv%d: %d MB in and out in %v", family, text.Len()/1e6, time.Since(began).Round(time.Millisecond))
		refusedAtOnce(t, a, lan.at(family, 5433), family)
		refusedAtOnce(t, a, lan.at(family, 22), family)
	}
}
