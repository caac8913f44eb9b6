package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The library still writes the phrases that the command translates. Each becomes a flag or a command.
func TestFlagNamesOfSettings(t *testing.T) {
	t.Parallel()
	var library strings.Builder
	for _, dir := range []string{"migrate", "audit", "internal/rediswalk"} {
		files, err := filepath.Glob(filepath.Join("../../middleware", dir, "*.go"))
		require.NoError(t, err)
		for _, f := range files {
			if !strings.HasSuffix(f, "_test.go") {
				data, err := os.ReadFile(f)
				require.NoError(t, err)
				library.Write(data)
			}
		}
	}
	for i, phrase := range settingNames() {
		if i%2 == 0 {
			require.Contains(t, library.String(), phrase)
			require.NotEqual(t, phrase, withFlags(phrase))
		}
	}
	for text, want := range map[string]string{
		"1 entries of type hash were not examined (ignore type hash if they hold no cached data)": "1 entries of type hash were not examined (--ignore-type hash if they hold no cached data)",
		"Exclude[3] excludes every key": "--exclude excludes every key",
		"Prefix and Exclude cannot match names that OneWayKeys hides (remove these settings)": "--prefix and --exclude cannot match names that --one-way-keys hides (remove these flags)",
		"the prefix OtherApplications[0] is empty":                                            "the prefix --other-applications is empty",
		"OtherApplications covers Namespaces[1]":                                              "--other-applications covers --namespace",
		`IgnoreTypes: "x" is not a type that can be ignored`:                                  `--ignore-type: "x" is not a type that can be ignored`,
	} {
		require.Equal(t, want, withFlags(text))
	}
}

// Lists of texts in a JSON report are treated like text. The library's own list stays.
func TestFlagged(t *testing.T) {
	t.Parallel()
	library := []string{"3 entries (Samples shows their names)", "another"}
	require.Equal(t, []string{"3 entries (--samples 10 shows their names)", "another"}, flagged(library))
	require.Equal(t, "3 entries (Samples shows their names)", library[0])
	require.Nil(t, flagged(nil))
}
