// Package readme holds the README to its word: every program in it is built, vetted and run, as a reader would who pastes
// it into a module of their own, and must print what the README says, and say why where it fails.
package readme

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/internal/redistest"
)

// A program of the README, and the output that follows it, if the next block is one.
type program struct {
	source string
	output string
}

var fence = regexp.MustCompile("(?ms)^```([a-z]+)\n(.*?)^```$")

func programs(t *testing.T, readme string) []program {
	t.Helper()
	var found []program
	afterProgram := false
	for _, block := range fence.FindAllStringSubmatch(readme, -1) {
		language, text := block[1], block[2]
		switch {
		case language == "go" && strings.HasPrefix(text, "package main\n"):
			found = append(found, program{source: text})
			afterProgram = true
			continue
		case language == "text" && afterProgram:
			found[len(found)-1].output = text
		}
		afterProgram = false
	}
	return found
}

func TestProgramsOfTheReadme(t *testing.T) {
	t.Parallel()
	root, err := filepath.Abs("../..")
	require.NoError(t, err)
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	require.NoError(t, err)

	found := programs(t, string(readme))
	names := make([]string, 0, len(found))
	for _, p := range found {
		names = append(names, name(p))
	}
	require.Equal(t, []string{"decoration", "fx", "kek"}, names, "the programs of the README")
	for _, p := range found {
		t.Run(name(p), func(t *testing.T) {
			t.Parallel()
			if name(p) == "kek" {
				requireKEK(t, build(t, root, p.source))
				return
			}
			require.NotEmpty(t, p.output, "no ```text block with the output follows the program")
			const usual = "localhost:6379"
			require.Contains(t, p.source, usual)
			server := redistest.Start(t)
			binary := build(t, root, strings.ReplaceAll(p.source, usual, server.Addr()))
			const passphrase = "CACHE_PASSPHRASE=correct horse battery staple"

			stdout, stderr, err := run(t, binary, passphrase)
			require.NoError(t, err, stderr)
			require.Equal(t, p.output, stdout)

			stdout, stderr, err = run(t, binary, "CACHE_PASSPHRASE=")
			requireSays(t, err, stdout, stderr, "passphrase")
			require.NoError(t, server.Kill())
			stdout, stderr, err = run(t, binary, passphrase)
			requireSays(t, err, stdout, stderr, "connection refused")
		})
	}
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

// requireSays: a program that failed ends with a status and the reason.
func requireSays(t *testing.T, err error, stdout, stderr, reason string) {
	t.Helper()
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit)
	require.Equal(t, 1, exit.ExitCode(), stderr)
	require.Empty(t, stdout)
	require.Contains(t, stderr, reason)
}

// requireKEK runs the program that makes kek.json.
func requireKEK(t *testing.T, binary string) {
	t.Helper()
	file := filepath.Join(filepath.Dir(binary), "kek.json") // run starts a program in its own directory
	stdout, stderr, err := run(t, binary, "UNUSED=")
	require.NoError(t, err, stderr)
	require.Empty(t, stdout)
	info, err := os.Stat(file)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	kek, err := aead.OpenKEK(t.Context(), "file://"+file+"?reload=off")
	require.NoError(t, err)
	sealed, err := kek.EncryptWithContext(t.Context(), []byte("a data key"), nil)
	require.NoError(t, err)
	opened, err := kek.DecryptWithContext(t.Context(), sealed, nil)
	require.NoError(t, err)
	require.Equal(t, "a data key", string(opened))

	_, stderr, err = run(t, binary, "UNUSED=")
	require.Error(t, err, "it must not overwrite keys")
	require.Contains(t, stderr, "kek.json")
}

func name(p program) string {
	switch {
	case strings.Contains(p.source, "fxmodule"):
		return "fx"
	case strings.Contains(p.source, "kek.json"):
		return "kek"
	default:
		return "decoration"
	}
}

// build makes a module of the program's own, which requires this one as a user's would, and returns the binary.
func build(t *testing.T, root, source string) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "main.go"), []byte(source), 0o600))

	// The versions and sums of the root module, so that nothing is resolved anew and nothing fetched.
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
