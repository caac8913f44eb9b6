package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The command accepts every variable that fxmodule accepts.
func TestSettingsAreThoseOfTheApplication(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("../../fxmodule/config.go")
	require.NoError(t, err)
	prefixes := map[string]string{"Config": "", "Cache": "", "DataKeys": "DATA_KEYS_", "Jobs": "JOBS_", "Schedules": "JOBS_SCHEDULES_"}
	structure, tag := regexp.MustCompile(`^type (\w+) struct`), regexp.MustCompile(`env:"([A-Z_]+)"`)
	known, current := 0, ""
	for line := range strings.Lines(string(source)) {
		if m := structure.FindStringSubmatch(line); m != nil {
			current = m[1]
		}
		m := tag.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		prefix, ok := prefixes[current]
		require.True(t, ok, current)
		require.True(t, knownSetting(prefix+m[1]), prefix+m[1])
		if current == "Cache" || current == "DataKeys" {
			require.True(t, knownSetting("CACHES_SESSIONS_"+prefix+m[1]))
		}
		known++
	}
	require.Greater(t, known, 20)
	for _, name := range []string{"STROE", "CACHES_STORE", "CACHES__STORE", "JOBS_X", "PORT", "CACHES_X_RECORD"} {
		require.False(t, knownSetting(name), name)
	}
}
