package e2e

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The lines of the two programs' logs use the keys that the comment on daemon.NewLog lists, and it lists no others.
func TestLogKeys(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join(root, "cmd/internal/daemon/log.go"))
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^//\t(\w+(?:, \w+)*)  +\w`).FindAllStringSubmatch(string(doc), -1) {
		for key := range strings.SplitSeq(m[1], ", ") {
			listed[key] = true
		}
	}
	used := map[string]bool{}
	lines := 0
	for dir, files := range sources(t) {
		names := logging(files)
		for _, f := range files {
			ast.Inspect(f, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok || call.Ellipsis.IsValid() {
					return true
				}
				keys, ok := lineKeys(names, call)
				if !ok {
					return true
				}
				lines++
				for _, key := range keys {
					if used[key] = true; !listed[key] {
						t.Errorf("%s: a line with key %q, which is not listed", dir, key)
					}
				}
				return true
			})
		}
	}
	for _, key := range slices.Sorted(maps.Keys(listed)) {
		if !used[key] {
			t.Errorf("key %q is listed and no line has it", key)
		}
	}
	if lines < 60 {
		t.Errorf("only %d lines were found", lines)
	}
}

// sources are the parsed files of each folder of the programs, without tests.
func sources(t *testing.T) map[string][]*ast.File {
	t.Helper()
	folders := map[string][]*ast.File{}
	for _, top := range []string{"cmd/ssm", "cmd/kdc", "cmd/internal", "kdc", "tunssm"} {
		err := fs.WalkDir(os.DirFS(root), top, func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
				return err
			}
			f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, name), nil, parser.SkipObjectResolution)
			folders[path.Dir(name)] = append(folders[path.Dir(name)], f)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return folders
}

// logging are the names of what makes a line: slog's methods, and the package's functions that hand their arguments on
// to one of them.
func logging(files []*ast.File) map[string]bool {
	names := map[string]bool{"Debug": true, "Info": true, "Warn": true, "Error": true, "Log": true}
	for _, f := range files {
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			ast.Inspect(fn.Body, func(n ast.Node) bool {
				if call, ok := n.(*ast.CallExpr); ok && call.Ellipsis.IsValid() && names[called(call)] {
					names[fn.Name.Name] = true
				}
				return true
			})
		}
	}
	return names
}

func called(call *ast.CallExpr) string {
	if s, ok := call.Fun.(*ast.SelectorExpr); ok {
		return s.Sel.Name
	}
	return ""
}

// lineKeys are the attributes' keys of a line, or the key of an attribute that is made by itself, by slog.String or Add of a
// slog.Record; ok is false for any other call.
func lineKeys(names map[string]bool, call *ast.CallExpr) (keys []string, ok bool) {
	args := call.Args
	switch {
	case (called(call) == "String" || called(call) == "Add") && len(args) == 2 && text(args[0]) != "":
	case !names[called(call)]:
		return nil, false
	default:
		for len(args) > 0 && called(call) == "Log" && text(args[0]) == "" {
			args = args[1:] // context and level
		}
		if len(args) == 0 || text(args[0]) == "" {
			return nil, false
		}
		args = args[1:] // the message
	}
	for i := 0; i < len(args); i += 2 {
		keys = append(keys, text(args[i]))
	}
	return keys, true
}

func text(e ast.Expr) string {
	if l, ok := e.(*ast.BasicLit); ok && l.Kind == token.STRING {
		s, _ := strconv.Unquote(l.Value)
		return s
	}
	return ""
}
