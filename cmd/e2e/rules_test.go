package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/format"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const (
	module       = "ssmnet"
	fileLines    = 400
	functionSize = 60
)

// below says for each package of the module which others it may import. Read downwards it is the picture of the
// house: cmd/ssm and cmd/kdc at the top, packet/secret at the bottom. cmd/e2e alone stands outside and sees all.
var below = map[string][]string{
	"cmd/ssm": {"cmd/internal/cli", "cmd/internal/daemon", "tunssm/admin", "tunssm/host", "tunssm", "tunssm/undo",
		"tunssm/bench", "packet/control", "packet", "packet/secret"},
	"cmd/kdc": {"cmd/internal/cli", "cmd/internal/daemon", "kdc/admin", "kdc", "kdc/store", "policy",
		"packet/control", "packet", "packet/secret"},
	"cmd/internal/cli":    {"packet/secret"},
	"cmd/internal/daemon": {"packet/secret"},
	"cmd/internal/script": {"cmd/internal/daemon"},
	"tunssm/admin":        {"tunssm", "packet/control", "packet", "packet/secret"},
	"tunssm":              {"packet/control", "packet", "packet/secret"},
	"tunssm/host": {"tunssm", "tunssm/tun", "tunssm/udp", "tunssm/raw", "tunssm/forward", "tunssm/route", "tunssm/undo", "tunssm/bench",
		"packet/control", "packet", "packet/secret"},
	"tunssm/fake":          {"packet"},
	"tunssm/tun":           {"tunssm/raw", "packet"},
	"tunssm/udp":           {"tunssm/raw", "packet"},
	"tunssm/raw":           {},
	"tunssm/forward":       {"tunssm/route", "tunssm/undo", "tunssm/kernel"},
	"tunssm/route":         {"tunssm/undo", "tunssm/kernel", "packet"},
	"tunssm/undo":          {"tunssm/kernel", "packet/secret"},
	"tunssm/kernel":        {},
	"tunssm/bench":         {},
	"kdc/admin":            {"kdc", "policy", "packet/control", "packet", "packet/secret"},
	"kdc":                  {"kdc/store", "policy", "packet/control", "packet", "packet/secret"},
	"kdc/store":            {"packet/secret"},
	"policy":               {"packet"},
	"packet/control":       {"packet", "packet/secret"},
	"packet/control/proof": {},
	"packet":               {"packet/secret"},
	"packet/secret":        {},
}

// ground gives tests namespaces, or skips them, which is for nobody else to do.
const ground = "cmd/e2e/space"

// outside are the trees whose packages may import any other: they stand on both sides, or beside the house.
var outside = []string{"cmd/e2e", "scripts"}

// arrows checks the imports of every Go file against below. Test files may besides import what stands in their own part
// of the house (a test of tunssm/tun may set a route), and the ground they are tested on, but no more: a test that
// crosses an arrow ties two parts together as firmly as code does.
func arrows(fsys fs.FS) (wrong []string) {
	eachGoFile(fsys, func(name string, file *ast.File, _ *token.FileSet) {
		from := path.Dir(name)
		if inside(from, outside) {
			return
		}
		allowed, known := below[from]
		if !known {
			wrong = append(wrong, fmt.Sprintf("%s: no arrow leads to or from %s", name, from))
			return
		}
		for _, spec := range file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			to, ours := strings.CutPrefix(imported, module+"/")
			inTest := strings.HasSuffix(name, "_test.go") && (part(to) == part(from) || to == ground)
			if err == nil && ours && !inTest && !slices.Contains(allowed, to) {
				wrong = append(wrong, fmt.Sprintf("%s: %s imports %s", name, from, to))
			}
		}
	})
	return wrong
}

// part is the part of the house a package stands in: kdc of kdc/store.
func part(pkg string) string {
	first, _, _ := strings.Cut(pkg, "/")
	return first
}

func inside(dir string, trees []string) bool {
	return slices.ContainsFunc(trees, func(t string) bool { return dir == t || strings.HasPrefix(dir, t+"/") })
}

// topLevel checks that nothing stands beside the parts of the house. Names with a dot in front are nobody's business.
func topLevel(fsys fs.FS) (wrong []string) {
	house := strings.Fields("cmd kdc tunssm packet policy scripts go.mod go.sum LICENSE README.md CHANGELOG.md")
	entries, err := fs.ReadDir(fsys, ".")
	if err != nil {
		return []string{err.Error()}
	}
	for _, e := range entries {
		if !slices.Contains(house, e.Name()) && !strings.HasPrefix(e.Name(), ".") && !ignored(e.Name()) {
			wrong = append(wrong, e.Name()+": not in the house")
		}
	}
	return wrong
}

func formatted(fsys fs.FS) (wrong []string) {
	eachFile(fsys, func(name string, text []byte) {
		if path.Ext(name) != ".go" {
			return
		}
		switch want, err := format.Source(text); {
		case err != nil:
			wrong = append(wrong, name+": "+err.Error())
		case !bytes.Equal(want, text):
			wrong = append(wrong, name+": not as gofmt writes it")
		}
	})
	return wrong
}

func lengths(fsys fs.FS) (wrong []string) {
	eachGoFile(fsys, func(name string, file *ast.File, set *token.FileSet) {
		if strings.HasSuffix(name, "_test.go") {
			return
		}
		if n := set.File(file.Pos()).LineCount(); n > fileLines {
			wrong = append(wrong, fmt.Sprintf("%s: %d lines, %d at most", name, n, fileLines))
		}
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			start, end := set.Position(f.Pos()), set.Position(f.End())
			if n := end.Line - start.Line + 1; n > functionSize {
				wrong = append(wrong,
					fmt.Sprintf("%s:%d: %s has %d lines, %d at most", name, start.Line, f.Name.Name, n, functionSize))
			}
		}
	})
	return wrong
}

// machinePaths looks for paths that mean something on one machine only: this checkout, this user's Go, people's homes.
func machinePaths(top, home string) func(fs.FS) []string {
	bad := []string{`/` + `home/[a-z]`, `/` + `Users/[A-Za-z]`, `/` + `work/`, regexp.QuoteMeta(top) + `/`}
	if home != "" {
		bad = append(bad, regexp.QuoteMeta(path.Join(home, "go"))+`\b`)
	}
	pattern := regexp.MustCompile(`(^|[^\w./-])(` + strings.Join(bad, "|") + `)`)
	return func(fsys fs.FS) []string {
		return grep(fsys, pattern, func([]byte) string { return "a path of one machine" })
	}
}

func unfinished(fsys fs.FS) []string {
	pattern := regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|t\.Sk` + `ip(Now|f)?\()`)
	found := grep(fsys, pattern, func(found []byte) string { return string(found) })
	return slices.DeleteFunc(found, func(line string) bool { return strings.HasPrefix(line, ground+"/") })
}

// grep gives "file:line: what" for each line of a Go file, script or text in which pattern is found.
func grep(fsys fs.FS, pattern *regexp.Regexp, what func(found []byte) string) (wrong []string) {
	eachFile(fsys, func(name string, text []byte) {
		if bytes.IndexByte(text, 0) >= 0 {
			return // not text
		}
		for i, l := range bytes.Split(text, []byte("\n")) {
			if found := pattern.Find(l); found != nil {
				wrong = append(wrong, fmt.Sprintf("%s:%d: %s", name, i+1, what(found)))
			}
		}
	})
	return wrong
}

// fuzzSeeds checks that every fuzz target adds seeds, itself or through a function it hands f to, or has a folder of
// them: without any, go test runs the target on nothing and says ok.
func fuzzSeeds(fsys fs.FS) (wrong []string) {
	adds := map[string]bool{} // "dir.function" that calls Add on its *testing.F
	eachFuzzFunc(fsys, func(name string, f *ast.FuncDecl, param string) {
		adds[path.Dir(name)+"."+f.Name.Name] = calls(f, func(c *ast.CallExpr) bool {
			s, ok := c.Fun.(*ast.SelectorExpr)
			return ok && s.Sel.Name == "Add" && isIdent(s.X, param)
		})
	})
	eachFuzzFunc(fsys, func(name string, f *ast.FuncDecl, param string) {
		dir, target := path.Dir(name), f.Name.Name
		if !strings.HasPrefix(target, "Fuzz") || adds[dir+"."+target] {
			return
		}
		seeded := calls(f, func(c *ast.CallExpr) bool {
			callee, ok := c.Fun.(*ast.Ident)
			return ok && adds[dir+"."+callee.Name] &&
				slices.ContainsFunc(c.Args, func(a ast.Expr) bool { return isIdent(a, param) })
		})
		folder, err := fs.ReadDir(fsys, path.Join(dir, "testdata/fuzz", target))
		if !seeded && (err != nil || len(folder) == 0) {
			wrong = append(wrong, fmt.Sprintf("%s: %s has no seeds", name, target))
		}
	})
	return wrong
}

// eachFuzzFunc visits the functions whose first parameter is a *testing.F, with that parameter's name.
func eachFuzzFunc(fsys fs.FS, visit func(name string, f *ast.FuncDecl, param string)) {
	eachGoFile(fsys, func(name string, file *ast.File, _ *token.FileSet) {
		for _, d := range file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Type.Params.NumFields() == 0 || len(f.Type.Params.List[0].Names) == 0 {
				continue
			}
			star, ok := f.Type.Params.List[0].Type.(*ast.StarExpr)
			if !ok {
				continue
			}
			if s, ok := star.X.(*ast.SelectorExpr); ok && isIdent(s.X, "testing") && s.Sel.Name == "F" {
				visit(name, f, f.Type.Params.List[0].Names[0].Name)
			}
		}
	})
}

func calls(f *ast.FuncDecl, match func(*ast.CallExpr) bool) (found bool) {
	ast.Inspect(f, func(n ast.Node) bool {
		c, ok := n.(*ast.CallExpr)
		found = found || ok && match(c)
		return !found
	})
	return found
}

func isIdent(e ast.Expr, name string) bool {
	i, ok := e.(*ast.Ident)
	return ok && i.Name == name
}

// packageNames refuses the names that say where code was put because nobody knew where it belongs.
func packageNames(fsys fs.FS) (wrong []string) {
	empty := strings.Fields("util utils common helper helpers manager misc")
	eachGoFile(fsys, func(name string, file *ast.File, _ *token.FileSet) {
		dir, base := path.Base(path.Dir(name)), strings.TrimSuffix(strings.TrimSuffix(path.Base(name), ".go"), "_test")
		switch {
		case slices.Contains(empty, dir):
			wrong = append(wrong, name+": "+dir+" says nothing")
		case slices.Contains(empty, base):
			wrong = append(wrong, name+": "+base+" says nothing")
		case slices.Contains(empty, file.Name.Name):
			wrong = append(wrong, name+": package "+file.Name.Name+" says nothing")
		}
	})
	return wrong
}

// eachGoFile parses every Go file outside testdata, in order of their names. A file that does not parse is left to
// formatted, and to the compiler.
func eachGoFile(fsys fs.FS, visit func(name string, file *ast.File, set *token.FileSet)) {
	eachFile(fsys, func(name string, text []byte) {
		if path.Ext(name) != ".go" || strings.Contains("/"+name, "/testdata/") {
			return
		}
		set := token.NewFileSet()
		if file, err := parser.ParseFile(set, name, text, parser.SkipObjectResolution); err == nil {
			visit(name, file, set)
		}
	})
}

// eachFile reads every file of the tree but the version control's and what builds leave behind. A file that goes away
// meanwhile is passed over; any other failure panics, for a rule that cannot read proves nothing.
func eachFile(fsys fs.FS, visit func(name string, text []byte)) {
	err := fs.WalkDir(fsys, ".", func(name string, e fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case e.IsDir() && (name == ".git" || ignored(name)):
			return fs.SkipDir
		case !e.Type().IsRegular() || ignored(name):
			return nil
		}
		text, err := fs.ReadFile(fsys, name)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil {
			visit(name, text)
		}
		return err
	})
	if err != nil {
		panic(err)
	}
}

// ignored says what .gitignore says.
func ignored(name string) bool {
	return name == "bin" || name == ".cache" || path.Ext(name) == ".test" || path.Ext(name) == ".prof"
}
