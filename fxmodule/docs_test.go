package fxmodule_test

import (
	"encoding/json"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/fxmodule"
)

// blocks returns the code blocks of docs/fx.md by language.
func blocks(t *testing.T) (text string, found map[string][]string) {
	t.Helper()
	b, err := os.ReadFile("../docs/fx.md")
	require.NoError(t, err)
	found = make(map[string][]string)
	for _, m := range regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$").FindAllStringSubmatch(string(b), -1) {
		found[m[1]] = append(found[m[1]], m[2])
	}
	return string(b), found
}

// Every configuration in docs/fx.md is valid. The tests of directory docs compile its programs.
func TestDocsSnippets(t *testing.T) {
	_, found := blocks(t)
	var configs []fxmodule.Config
	require.Len(t, found["yaml"], 3)
	for _, y := range found["yaml"] {
		c, err := fxmodule.ConfigFromYAML(strings.NewReader(y))
		require.NoError(t, err, y)
		configs = append(configs, c)
	}
	require.Len(t, found["sh"], 2)
	for _, sh := range found["sh"] {
		setenv(t, strings.Split(strings.ReplaceAll(strings.TrimSpace(sh), "export ", ""), "\n")...)
		c, err := fxmodule.ConfigFromEnv()
		require.NoError(t, err, sh)
		configs = append(configs, c)
	}
	require.Equal(t, configs[0].Caches, configs[4].Caches, "the same Config, by YAML and by variables")
	require.Len(t, found["json"], 1)
	d := json.NewDecoder(strings.NewReader(found["json"][0]))
	d.DisallowUnknownFields()
	require.NoError(t, d.Decode(new(fxmodule.Report)))
	for language := range found {
		require.Contains(t, []string{"go", "yaml", "sh", "json"}, language, "a test must check every kind of block")
	}
}

// The tables of docs/fx.md have exactly the settings that exist.
func TestDocsTables(t *testing.T) {
	t.Parallel()
	text, _ := blocks(t)
	documented := make(map[string]string)
	for _, m := range regexp.MustCompile("(?m)^\\| `([\\w.]+)` \\| `(\\w+)` \\|").FindAllStringSubmatch(text, -1) {
		documented[m[1]+" "+m[2]] = m[2]
	}
	want := make(map[string]string)
	var walk func(typ reflect.Type, path, prefix string)
	walk = func(typ reflect.Type, path, prefix string) {
		for i := range typ.NumField() {
			f := typ.Field(i)
			name := strings.Trim(path+"."+f.Tag.Get("yaml"), ".")
			switch variable := f.Tag.Get("env"); {
			case f.Tag.Get("yaml") == "-":
			case f.Tag.Get("envPrefix") != "":
				walk(f.Type, name, prefix+f.Tag.Get("envPrefix"))
			default:
				want[name+" "+prefix+variable] = prefix + variable
			}
		}
	}
	walk(reflect.TypeFor[fxmodule.Cache](), "", "")
	walk(reflect.TypeFor[fxmodule.Jobs](), "", "")
	want["key_timeout SEALCACHE_KEY_TIMEOUT"] = "SEALCACHE_KEY_TIMEOUT"
	require.Equal(t, want, documented)

	var variables []string
	for _, v := range everyVariable {
		name, _, _ := strings.Cut(v, "=")
		for _, cache := range []string{"NAMES", "TOKENS"} { // with settings that exclude those of the default cache
			name = strings.TrimPrefix(name, "SEALCACHE_CACHES_"+cache+"_")
		}
		variables = append(variables, strings.TrimPrefix(strings.TrimPrefix(name, "SEALCACHE_"), "JOBS_"))
	}
	for _, variable := range want {
		require.True(t, slices.Contains(variables, strings.TrimPrefix(variable, "SEALCACHE_")), "TestConfigFromEnv lacks %s", variable)
	}
}
