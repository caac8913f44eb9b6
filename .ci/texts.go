// Command texts finds errors, log lines and warnings whose text has a line of over 120 bytes. It reads the names of Go files
// from standard input, and prints the place of each such text. The check "wording" of .ci/checks runs it:
//
//	git ls-files -- '*.go' | go run .ci/texts.go
//
// If a text is put together with +, a constant counts with its value, and a variable does not count.
package main

import (
	"bufio"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strconv"
	"strings"
)

const most = 120

// messages are the functions and methods whose arguments are errors, log lines, warnings and findings.
var messages = map[string]bool{
	"wrong": true, "bad": true, "warn": true, "count": true, "found": true,
	"Debug": true, "Info": true, "Warn": true, "Error": true, "Log": true, "LogAttrs": true,
	"DebugContext": true, "InfoContext": true, "WarnContext": true, "ErrorContext": true,
}

// reports are the packages whose texts are all parts of errors and reports.
var reports = map[string]bool{"audit": true, "migrate": true, "rediswalk": true}

func main() {
	positions := token.NewFileSet()
	var files []*ast.File
	for names := bufio.NewScanner(os.Stdin); names.Scan(); {
		file, err := parser.ParseFile(positions, names.Text(), nil, parser.SkipObjectResolution)
		if err != nil {
			fmt.Println(err)
			continue
		}
		files = append(files, file)
	}
	values := constants(files)
	for _, file := range files {
		check := func(n ast.Node) bool {
			e, ok := n.(ast.Expr)
			if !ok {
				return true
			}
			text, ok := values.fold(file.Name.Name, e)
			if strings.Contains(text, "redis.call(") {
				return false // a script
			}
			for line := range strings.Lines(text) {
				if len(line) > most {
					fmt.Printf("%s: a text of %d bytes, over %d\n", positions.Position(e.Pos()), len(line), most)
				}
			}
			return !ok
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if ok && isMessage(call) && !reports[file.Name.Name] {
				for _, a := range call.Args {
					ast.Inspect(a, check)
				}
			}
			return true
		})
		if reports[file.Name.Name] {
			ast.Inspect(file, check)
		}
	}
}

// isMessage reports whether a call makes or prints a message.
func isMessage(call *ast.CallExpr) bool {
	of, name := "", ""
	switch f := call.Fun.(type) {
	case *ast.Ident:
		name = f.Name
	case *ast.SelectorExpr:
		name = f.Sel.Name
		if x, ok := f.X.(*ast.Ident); ok {
			of = x.Name
		}
	}
	if of == "fmt" && strings.HasPrefix(name, "Fprint") {
		to, ok := call.Args[0].(*ast.SelectorExpr)
		return ok && strings.EqualFold(to.Sel.Name, "stderr")
	}
	return of == "errors" && name == "New" || strings.HasSuffix(name, "Errorf") || messages[name]
}

// folder has the values of string constants by package and name.
type folder map[string]string

// constants folds the string constants of all packages. A constant may need one of a file that is read later. Constants
// inside functions are left out, because their names are not unique.
func constants(files []*ast.File) folder {
	values := folder{}
	for range 3 {
		for _, file := range files {
			for _, declaration := range file.Decls {
				if d, ok := declaration.(*ast.GenDecl); ok && d.Tok == token.CONST {
					for _, spec := range d.Specs {
						values.add(file.Name.Name, spec.(*ast.ValueSpec))
					}
				}
			}
		}
	}
	return values
}

func (f folder) add(pkg string, spec *ast.ValueSpec) {
	for i, e := range spec.Values {
		if text, ok := f.fold(pkg, e); ok {
			f[pkg+"."+spec.Names[i].Name] = text
		}
	}
}

// fold returns the text of an expression, if a part of it is known.
func (f folder) fold(pkg string, e ast.Expr) (text string, ok bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		text, err := strconv.Unquote(e.Value)
		return text, e.Kind == token.STRING && err == nil
	case *ast.Ident:
		text, ok = f[pkg+"."+e.Name]
	case *ast.SelectorExpr:
		if x, isName := e.X.(*ast.Ident); isName {
			text, ok = f[x.Name+"."+e.Sel.Name]
		}
	case *ast.ParenExpr:
		return f.fold(pkg, e.X)
	case *ast.BinaryExpr:
		if e.Op != token.ADD {
			return "", false
		}
		left, isLeft := f.fold(pkg, e.X)
		right, isRight := f.fold(pkg, e.Y)
		return left + right, isLeft || isRight
	}
	return text, ok
}
