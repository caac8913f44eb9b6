package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A missing keyset file is named in one form. A keyset that was given in place of its path is not repeated.
func TestMissingKeysetFiles(t *testing.T) {
	t.Parallel()
	_, kek := kekFile(t)
	secret := strings.Repeat("c2VjcmV0", 20)
	for _, args := range [][]string{
		{"keys", "list", "--kek", kek, "--keyset"}, {"keys", "add", "--kek", kek, "--keyset"}, {"keys", "rewrap", "--kek", kek, "--keyset"},
		{"kek", "check"}, {"kek", "check", "--json"},
	} {
		status, _, log := sealcache(t, append(args, "none.json")...)
		require.Equal(t, exitUsage, status, args)
		require.Contains(t, log, ": keyset file: open none.json: no such file or directory", args)
		status, out, log := sealcache(t, append(args, secret)...)
		require.Equal(t, exitUsage, status, args)
		require.NotContains(t, out+log, secret, args)
	}
}

// An operator who mistypes a flag or a command reads which one it was. A secret in a wrong place is not repeated.
func TestUnknownFlagsAndCommandsAreShownWithoutSecrets(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("n", 100)
	for args, want := range map[string]string{
		"migrate --prefx shop:":         `sealcache migrate: unknown flag --prefx (did you mean --prefix?)`,
		"migrate --prefx=SECRET":        `sealcache migrate: unknown flag --prefx (did you mean --prefix?)`,
		"migrate --nonsense=SECRET":     `sealcache migrate: unknown flag --nonsense ("sealcache help migrate" lists the flags)`,
		"migrate --nonsense:SECRET":     `sealcache migrate: unknown flag --nonsense ("sealcache help migrate" lists the flags)`,
		"migrate --" + long:             `sealcache migrate: unknown flag --` + long[:30] + ` ("sealcache help migrate" lists the flags)`,
		"migrate --kex x":               `sealcache migrate: unknown flag --kex (did you mean --kek?)`,
		"migrate -pSECRET":              `sealcache migrate: unknown flag -p ("sealcache help migrate" lists the flags)`,
		"migrate -p=SECRET":             `sealcache migrate: unknown flag -p (did you mean --prefix or --prf-keyset-name or --progress or --proof?)`,
		"migrate -prefx=SECRET":         `sealcache migrate: unknown flag -p (did you mean --prefix?)`,
		"migrate -redis=SECRET":         `sealcache migrate: unknown flag -redis (flags take two dashes: --redis)`,
		"-!SECRET":                      `sealcache: unknown flag ("sealcache help" lists the flags)`,
		"--nonsense":                    `sealcache: unknown flag --nonsense ("sealcache help" lists the flags)`,
		"migrat":                        `sealcache: unknown command "migrat" (did you mean migrate?)`,
		"key":                           `sealcache: unknown command "key" (did you mean kek or keys?)`,
		"SECRET":                        `sealcache: unknown command ("sealcache help" lists the commands)`,
		"secret1":                       `sealcache: unknown command ("sealcache help" lists the commands)`,
		"keys " + long:                  `sealcache keys: unknown command ("sealcache help keys" lists the commands)`,
		"redis://user:SECRET@localhost": `sealcache: unknown command ("sealcache help" lists the commands)`,
	} {
		status, out, log := sealcache(t, strings.Fields(args)...)
		require.Equal(t, exitUsage, status, args)
		require.Empty(t, out)
		require.Equal(t, want+"\n", log, args)
	}
}

// An error names the file of a flag, also one whose name looks like that of a temporary file. It names no temporary file.
func TestErrorsNameTheFile(t *testing.T) {
	t.Parallel()
	_, kek := kekFile(t)
	for _, name := range []string{"keys.new", "keys.7.tmp"} {
		file := filepath.Join(t.TempDir(), name)
		_, _, log := sealcache(t, "keys", "list", "--kek", kek, "--keyset", file)
		require.Contains(t, log, "open "+file+": ")
		file = filepath.Join(t.TempDir(), "missing", name)
		_, _, log = sealcache(t, "keys", "create", "--kek", kek, "--out", file)
		require.Contains(t, log, "--out: open "+file+": ")
		_, _, log = sealcache(t, "kek", "create", file)
		require.Contains(t, log, "make the file: open "+file+": ")
		require.ErrorContains(t, replaceLocked(file, nil, nil, nil, nil), "open "+file+": ")
	}
	dir := t.TempDir()
	require.EqualError(t, replaceFile(dir, nil), "rename "+dir+" "+dir+": file exists")
}

// A path that cannot be used is a fault of the configuration.
func TestUnusablePaths(t *testing.T) {
	t.Parallel()
	path, kek := kekFile(t)
	loop := filepath.Join(t.TempDir(), "loop")
	require.NoError(t, os.Symlink(loop, loop))
	for name, file := range map[string]string{
		"a file as directory": filepath.Join(path, "x"),
		"a long name":         filepath.Join(t.TempDir(), strings.Repeat("n", 300)),
		"a loop":              loop,
	} {
		for _, args := range [][]string{
			{"keys", "list", "--kek", kek, "--keyset"}, {"keys", "add", "--kek", kek, "--keyset"}, {"keys", "create", "--kek", kek, "--out"},
			{"kek", "create"}, {"evidence", "--kek", kek, "--audit"},
		} {
			if name == "a loop" && args[1] == "create" {
				continue // it exists already
			}
			status, _, log := sealcache(t, append(args, file)...)
			require.Equal(t, exitUsage, status, "%s: %q: %s", name, args, log)
		}
	}
}
