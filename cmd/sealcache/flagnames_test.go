package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"log/slog"
	"maps"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/middleware/audit"
	"github.com/sealcache/sealcache/middleware/migrate"
)

// settingsWithoutFlag are set by the command itself, so no text for its user names them.
func settingsWithoutFlag() []string {
	return []string{"Config.Logger", "Config.Operation", "Config.Progress"}
}

// settings returns the names of all settings of the library, as its texts write them.
func settings() []string {
	var names []string
	var fields func(name string, of reflect.Type)
	fields = func(name string, of reflect.Type) {
		for i := range of.NumField() {
			f := of.Field(i)
			names = append(names, name+"."+f.Name)
			if f.Type == reflect.TypeFor[migrate.Space]() || f.Type == reflect.TypeFor[*migrate.Space]() {
				fields(name+"."+f.Name, reflect.TypeFor[migrate.Space]())
			}
		}
	}
	fields("Config", reflect.TypeFor[migrate.Config]())
	fields("Config", reflect.TypeFor[migrate.PlanConfig]())
	fields("Config", reflect.TypeFor[audit.Config]())
	fields("Conditions", reflect.TypeFor[audit.Conditions]())
	slices.Sort(names)
	return slices.Compact(names)
}

// Each setting has a flag that exists, or is listed as one that has none.
func TestEachSettingHasAFlag(t *testing.T) {
	t.Parallel()
	known := slices.Concat(settingsWithoutFlag(), slices.Collect(maps.Keys(settingFlags())))
	slices.Sort(known)
	require.Equal(t, settings(), known)
	flags := map[string]bool{}
	var visit func(c *cobra.Command)
	visit = func(c *cobra.Command) {
		c.Flags().VisitAll(func(f *pflag.Flag) { flags[f.Name] = true })
		for _, sub := range c.Commands() {
			visit(sub)
		}
	}
	visit(newRoot(&program{stdout: io.Discard, stderr: io.Discard, log: slog.New(slog.DiscardHandler)}))
	for setting, flag := range settingFlags() {
		require.True(t, flags[flag], "no command has the flag --%s of %s", flag, setting)
	}
}

// Texts of the library write each setting in the one form that the command replaces.
func TestLibraryWritesSettingsInOneForm(t *testing.T) {
	t.Parallel()
	fields := map[string]bool{}
	for _, s := range settings() {
		fields[s[strings.LastIndex(s, ".")+1:]] = true
	}
	used := map[string]bool{}
	for place, text := range libraryTexts(t) {
		form := regexp.MustCompile(`\b(Config|Conditions)\b(\.[A-Z]\w*)*`)
		for _, s := range form.FindAllString(text, -1) {
			used[s] = true
			require.Contains(t, settings(), s, "%s: %q", place, text)
		}
		for _, word := range regexp.MustCompile(`\b[A-Z][A-Za-z]*\b`).FindAllString(form.ReplaceAllString(text, ""), -1) {
			require.False(t, fields[word], "%s: write Config.%s in %q", place, word, text)
		}
	}
	require.True(t, used["Config.Proof"] && used["Config.Exclude"] && used["Conditions.NotPrimarySince"], "the test reads the texts")
}

// libraryTexts returns the string literals of the packages whose errors and reports the command shows, by their place.
func libraryTexts(t *testing.T) map[string]string {
	t.Helper()
	texts := map[string]string{}
	for _, dir := range []string{"migrate", "audit", "internal/rediswalk"} {
		files, err := filepath.Glob(filepath.Join("../../middleware", dir, "*.go"))
		require.NoError(t, err)
		require.NotEmpty(t, files)
		for _, name := range files {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			set := token.NewFileSet()
			file, err := parser.ParseFile(set, name, nil, parser.SkipObjectResolution)
			require.NoError(t, err)
			ast.Inspect(file, func(n ast.Node) bool {
				if _, ok := n.(*ast.Field); ok {
					return false // its tag is not a text
				}
				if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.STRING {
					text, err := strconv.Unquote(l.Value)
					require.NoError(t, err)
					texts[set.Position(l.Pos()).String()] = text
				}
				return true
			})
		}
	}
	return texts
}

// The command shows flags instead of settings.
func TestWithFlags(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"set Config.Proof or Config.AllowUnproven":                       "set --proof or --allow-unproven",
		"Config.Exclude[3] excludes every key":                           "--exclude excludes every key",
		"Config.To.Namespace must differ from Config.From.Namespace":     "--to-namespace must differ from --namespace",
		"run the audit without Config.Prefix.":                           "run the audit without --prefix.",
		"Config.OtherApplications covers Config.Namespaces[1], which":    "--other-applications covers --namespace, which",
		"is missing (set Conditions.NotPrimarySince)":                    "is missing (set --not-primary-since)",
		"Config.Operation is missing, and tls.Config.Rand is not a flag": "Config.Operation is missing, and tls.Config.Rand is not a flag",
	} {
		require.Equal(t, want, withFlags(text))
	}
}

// Lists of texts in a JSON report are treated like text. The library's own list stays.
func TestFlagged(t *testing.T) {
	t.Parallel()
	library := []string{"3 entries (set Config.Samples to see their names)", "another"}
	require.Equal(t, []string{"3 entries (set --samples to see their names)", "another"}, flagged(library))
	require.Equal(t, "3 entries (set Config.Samples to see their names)", library[0])
	require.Nil(t, flagged(nil))
}
