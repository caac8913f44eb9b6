// Package docs tests the code in README.md and in this directory. Every complete program is built and vetted in a new
// module, as if a reader had pasted it. A program is run if the document shows its output. Every other Go block must also be
// in a compiled file of this repository.
package docs

import (
	"bytes"
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/redistest"
)

// A block is a fenced block of a document.
type block struct {
	document string
	language string
	text     string
	output   string // the text block directly after a program
}

var fence = regexp.MustCompile("(?ms)^ *```([a-z]+)\n(.*?)^ *```$")

func (b block) isProgram() bool {
	return b.language == "go" && strings.HasPrefix(b.text, "package main\n")
}

// blocks returns the fenced blocks of README.md and of all documents of this directory.
func blocks(t *testing.T) []block {
	t.Helper()
	documents, err := filepath.Glob("*.md")
	require.NoError(t, err)
	require.NotEmpty(t, documents)
	var found []block
	for _, document := range append(documents, "../README.md") {
		text, err := os.ReadFile(document)
		require.NoError(t, err)
		for _, match := range fence.FindAllStringSubmatch(string(text), -1) {
			b := block{document: filepath.Base(document), language: match[1], text: match[2]}
			if last := len(found) - 1; b.language == "text" && last >= 0 && found[last].isProgram() && found[last].document == b.document {
				found[last].output = b.text
				continue
			}
			found = append(found, b)
		}
	}
	return found
}

func TestPrograms(t *testing.T) {
	t.Parallel()
	root := repository(t)
	programs := map[string]int{}
	for _, b := range blocks(t) {
		if !b.isProgram() {
			continue
		}
		programs[b.document]++
		t.Run(b.document, func(t *testing.T) {
			t.Parallel()
			const usual = "localhost:6379"
			if b.output == "" {
				build(t, root, b.text)
				return
			}
			require.Contains(t, b.text, usual)
			server := redistest.Start(t)
			binary := build(t, root, strings.ReplaceAll(b.text, usual, server.Addr()))
			const passphrase = "CACHE_PASSPHRASE=correct horse battery staple"

			stdout, stderr, err := run(t, binary, passphrase)
			require.NoError(t, err, stderr)
			require.Equal(t, b.output, stdout)

			stdout, stderr, err = run(t, binary, "CACHE_PASSPHRASE=")
			requireSays(t, err, stdout, stderr, "passphrase")
			require.NoError(t, server.Kill())
			stdout, stderr, err = run(t, binary, passphrase)
			requireSays(t, err, stdout, stderr, "connection refused")
		})
	}
	require.Equal(t, 1, programs["README.md"], "the README has one complete program")
	require.NotZero(t, programs["fx.md"], "the fx guide has a complete program")
}

// TestFragments requires that each Go block that is not a program stands, line by line, in a Go file that is compiled.
func TestFragments(t *testing.T) {
	t.Parallel()
	var compiled []string
	for _, source := range sources(t) {
		compiled = append(compiled, withoutIndentation(source))
	}
	for _, b := range blocks(t) {
		if b.language != "go" || b.isProgram() {
			continue
		}
		fragment := withoutIndentation(b.text)
		found := false
		for _, source := range compiled {
			found = found || strings.Contains(source, fragment)
		}
		require.True(t, found, "%s: no compiled file of the repository has these lines:\n%s", b.document, b.text)
	}
}

// sources returns the Go files of the repository by name.
func sources(t *testing.T) map[string]string {
	t.Helper()
	root := repository(t)
	out, err := exec.CommandContext(t.Context(), "git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", "*.go").Output()
	require.NoError(t, err)
	files := map[string]string{}
	for _, name := range strings.Split(strings.TrimRight(string(out), "\x00"), "\x00") {
		if source, err := os.ReadFile(filepath.Join(root, name)); err == nil { // a deleted file is still in the index
			files[name] = string(source)
		}
	}
	require.NotEmpty(t, files)
	return files
}

// withoutIndentation returns the lines of a text without the space around each, and without empty lines.
func withoutIndentation(text string) string {
	var lines strings.Builder
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			lines.WriteString(line + "\n")
		}
	}
	return lines.String()
}

func repository(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("..")
	require.NoError(t, err)
	return root
}

func run(t *testing.T, binary, setting string) (stdout, stderr string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary)
	cmd.Dir = filepath.Dir(binary)
	cmd.Env = append(os.Environ(), setting)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

// requireSays checks that a failed program ended with status 1 and the reason.
func requireSays(t *testing.T, err error, stdout, stderr, reason string) {
	t.Helper()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, 1, exit.ExitCode(), stderr)
	require.Empty(t, stdout)
	require.Contains(t, stderr, reason)
}

// build compiles a program in its own module, which requires this one as a user's would, and returns the binary.
func build(t *testing.T, root, source string) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "main.go"), []byte(source), 0o600))

	// The versions and sums of the root module, so that nothing is resolved again or fetched.
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	require.NoError(t, err)
	module := []byte("module github.com/sealcache/sealcache\n")
	require.True(t, bytes.HasPrefix(mod, module))
	mod = append([]byte("module example.com/pasted\n"), mod[len(module):]...)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "go.mod"), mod, 0o600))
	sum, err := os.ReadFile(filepath.Join(root, "go.sum"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "go.sum"), sum, 0o600))

	goCommand(t, dir, "mod", "edit",
		"-require=github.com/sealcache/sealcache@v0.0.0", "-replace=github.com/sealcache/sealcache="+root)
	goCommand(t, dir, "vet", "-mod=mod", ".")
	binary := "pasted"
	if runtime.GOOS == "windows" {
		binary += ".exe"
	}
	goCommand(t, dir, "build", "-mod=mod", "-o", binary, ".")
	return filepath.Join(dir, binary)
}

func goCommand(t *testing.T, dir string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOWORK=off")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "go %s: %s", strings.Join(args, " "), out)
}

// TestTroubleshooting requires that each text that the guide explains stands in the source of this module, and that the guide
// explains each exported error.
func TestTroubleshooting(t *testing.T) {
	t.Parallel()
	guide, err := os.ReadFile("troubleshooting.md")
	require.NoError(t, err)
	var code strings.Builder
	for name, source := range sources(t) {
		if !strings.HasSuffix(name, "_test.go") {
			code.WriteString(source)
		}
	}
	quoted := regexp.MustCompile("\\*\\*`([^`]+)`\\*\\*").FindAllStringSubmatch(string(guide), -1)
	require.Greater(t, len(quoted), 20)
	elsewhere := map[string]bool{
		"missing type: store.StoreInterface": true, "is not set": true, "keyset file: open": true,
	}
	for _, q := range quoted {
		text := strings.ReplaceAll(q[1], `"`, `\"`)
		require.True(t, elsewhere[q[1]] || strings.Contains(code.String(), text), "the code does not say %q", q[1])
	}
	for _, names := range exportedErrors(t) {
		explained := slices.ContainsFunc(names, func(name string) bool { return strings.Contains(string(guide), "`"+name+"`") })
		require.True(t, explained, "the guide does not explain %s", names[0])
	}
}

// exportedErrors returns the names by which the guide may call each exported error of the library. The names of the packages
// aead, middleware and jobs may stand without the package. Test suites are left out.
func exportedErrors(t *testing.T) [][]string {
	t.Helper()
	var found [][]string
	for name, source := range sources(t) {
		dir := "/" + path.Dir(name) + "/"
		if strings.HasSuffix(name, "_test.go") || strings.Contains(dir, "/internal/") || strings.HasSuffix(dir, "test/") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, source, parser.SkipObjectResolution)
		require.NoError(t, err)
		for _, d := range file.Decls {
			declaration, ok := d.(*ast.GenDecl)
			if !ok || declaration.Tok != token.VAR {
				continue
			}
			for _, spec := range declaration.Specs {
				for _, variable := range spec.(*ast.ValueSpec).Names {
					if !strings.HasPrefix(variable.Name, "Err") {
						continue
					}
					names := []string{file.Name.Name + "." + variable.Name}
					if slices.Contains([]string{"aead", "middleware", "jobs"}, file.Name.Name) {
						names = append(names, variable.Name)
					}
					found = append(found, names)
				}
			}
		}
	}
	require.Greater(t, len(found), 30)
	return found
}

// TestMetrics requires that the guide lists exactly the instruments that the code makes.
func TestMetrics(t *testing.T) {
	t.Parallel()
	guide, err := os.ReadFile("metrics.md")
	require.NoError(t, err)
	made, listed := map[string]bool{}, map[string]bool{}
	instrument := regexp.MustCompile(`\.(?:Counter|Duration|Total|Level|Float64ObservableGauge)\("(sealcache\.[a-z_.]+)"`)
	for name, source := range sources(t) {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		for _, match := range instrument.FindAllStringSubmatch(source, -1) {
			made[match[1]] = true
		}
	}
	for _, match := range regexp.MustCompile("(?m)^\\| `(sealcache\\.[a-z_.]+)` \\|").FindAllStringSubmatch(string(guide), -1) {
		listed[match[1]] = true
	}
	require.NotEmpty(t, made)
	require.Equal(t, made, listed)
}
