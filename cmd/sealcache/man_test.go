package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// commands returns a command and all commands below it.
func commands(root *cobra.Command) []*cobra.Command {
	all := []*cobra.Command{root}
	for _, c := range root.Commands() {
		all = append(all, commands(c)...)
	}
	return all
}

// The generator of man pages reads "_" as the start of emphasis.
func TestManPagesKeepEachVariableName(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	status, _, log := sealcache(t, "man", dir)
	require.Equal(t, exitDone, status, log)
	variable := regexp.MustCompile(`SEALCACHE_[A-Z_]*`)
	found := 0
	for _, c := range commands(newRoot(new(program))) {
		page, err := os.ReadFile(filepath.Join(dir, strings.ReplaceAll(c.CommandPath(), " ", "-")+".1"))
		if c.Name() == "help" {
			continue
		}
		require.NoError(t, err)
		text := strings.NewReplacer(`\_`, "_", `\-`, "-").Replace(string(page))
		texts := c.Long + "\n"
		c.Flags().VisitAll(func(f *pflag.Flag) { texts += f.Usage + "\n" })
		for _, name := range variable.FindAllString(texts, -1) {
			require.Regexp(t, regexp.QuoteMeta(name)+`([^A-Z_]|$)`, text, c.CommandPath())
			found++
		}
		require.NotContains(t, text, "=[]")
		require.NotContains(t, text, `\fIN`, c.CommandPath())
	}
	require.Greater(t, found, 50)
}

// A reader of the help learns the form of a command from an example.
func TestEachCommandHasAnExample(t *testing.T) {
	t.Parallel()
	for _, c := range commands(newRoot(new(program))) {
		if c.Name() == "help" || c.Parent() != nil && c.Parent().Name() == "completion" {
			continue
		}
		require.Contains(t, c.Example, c.CommandPath())
		require.NotContains(t, c.UsageString(), "default []")
		require.NotRegexp(t, `SEALCACHE_KEYSET=[a-z]`, c.Example, "fxmodule refuses a path that begins without / or .")
		if strings.Contains(c.Example, "keys destroy") {
			require.Contains(t, c.Example, "--certificate destroyed.json", "the certificate is printed only once")
		}
		require.False(t, c.Hidden, c.CommandPath())
	}
}

// The hooks of a release make the files that its archives name.
func TestReleaseHooksMakeTheFilesOfTheArchives(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("../../.goreleaser.yaml")
	require.NoError(t, err)
	var config struct {
		Before   struct{ Hooks []string }
		Builds   []struct{ Ldflags []string }
		Archives []struct {
			Files []struct {
				Src  string
				Info struct{ Mtime string }
			}
		}
	}
	require.NoError(t, yaml.Unmarshal(data, &config))
	require.NotEmpty(t, config.Before.Hooks)
	require.Len(t, config.Builds, 1)
	require.Equal(t, []string{"-s -w"}, config.Builds[0].Ldflags, "the default depends on the time of the build")
	top := t.TempDir()
	self, err := os.Executable()
	require.NoError(t, err)
	require.NoError(t, os.Symlink(self, filepath.Join(top, "sealcache"))) // TestMain runs the command under this name
	require.NoError(t, os.MkdirAll(filepath.Join(top, "cmd", "sealcache"), 0o700))
	// It stands for the go command, and is called as "go run -C DIR . ARGS".
	fake := "#!/bin/sh\ntest \"$1 $2 $4\" = 'run -C .' && cd \"$3\" && shift 4 && exec '" + filepath.Join(top, "sealcache") + "' \"$@\"\n"
	require.NoError(t, os.WriteFile(filepath.Join(top, "go"), []byte(fake), 0o700))
	for _, hook := range config.Before.Hooks {
		cmd := exec.CommandContext(t.Context(), "sh", "-c", strings.ReplaceAll(hook, "{{ .CommitTimestamp }}", "1893456000"))
		cmd.Dir, cmd.Env = top, append(os.Environ(), "PATH="+top+string(os.PathListSeparator)+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, string(out))
	}
	page, err := os.ReadFile(filepath.Join(top, "man", "sealcache.1"))
	require.NoError(t, err)
	require.Contains(t, string(page), "Jan 2030")
	require.Len(t, config.Archives, 1)
	made := 0
	for _, f := range config.Archives[0].Files {
		require.Equal(t, "{{ .CommitDate }}", f.Info.Mtime, "an archive must not depend on when it is made")
		pattern := f.Src
		from := "../.."
		if strings.Contains(pattern, "/") {
			from = top
		}
		files, err := filepath.Glob(filepath.Join(from, pattern))
		require.NoError(t, err)
		require.NotEmpty(t, files, pattern)
		made += len(files)
		for _, file := range files {
			info, err := os.Stat(file)
			require.NoError(t, err)
			require.Positive(t, info.Size(), file)
		}
	}
	require.Greater(t, made, 30)
}

// The steps of a release drop every replace, since go install refuses a module that has one.
func TestReleasingNamesEachReplacedModule(t *testing.T) {
	t.Parallel()
	steps, err := os.ReadFile("../../CONTRIBUTING.md")
	require.NoError(t, err)
	mod, err := os.ReadFile("go.mod")
	require.NoError(t, err)
	replaced := regexp.MustCompile(`(?m)^(?:replace)?\s+github\.com/sealcache/sealcache(\S*) => `).FindAllStringSubmatch(string(mod), -1)
	require.NotEmpty(t, replaced)
	_, list, ok := strings.Cut(string(steps), "for m in $top ")
	require.True(t, ok)
	list, _, _ = strings.Cut(list, ";")
	named := []string{""}
	for m := range strings.FieldsSeq(list) {
		named = append(named, strings.TrimPrefix(m, "$top"))
	}
	for _, m := range replaced {
		require.Contains(t, named, m[1])
	}
}
