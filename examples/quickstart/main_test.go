package main

import (
	"bytes"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRun(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	require.NoError(t, run(t.Context(), &out))
	requireStory(t, out.String())
}

// The README gives this command.
func TestGoRun(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "go", "run", ".").CombinedOutput()
	require.NoError(t, err, string(out))
	requireStory(t, string(out))
}

func requireStory(t *testing.T, out string) {
	t.Helper()
	lines := strings.Split(out, "\n")
	for _, want := range []string{
		`^  application  patient:17  "type 2 diabetes"$`,
		`^  store        patient:17  \d+ bytes, sealed under key \d+:$`,
		`^  application  patient:17  refused: it was altered or moved$`,
		`^  application  patient:18  refused: it was altered or moved$`,
		`^  application  patient:19  refused: it is not sealed$`,
		`^  application  patient:20  "asthma"$`,
	} {
		re := regexp.MustCompile(want)
		require.True(t, func() bool {
			for _, l := range lines {
				if re.MatchString(l) {
					return true
				}
			}
			return false
		}(), "no line %s in:\n%s", want, out)
	}
	keys := regexp.MustCompile(`store        (\S+)  \d+ bytes, sealed under key (\d+):`).FindAllStringSubmatch(out, -1)
	require.Len(t, keys, 3)
	require.Equal(t, keys[0][2], keys[1][2], "the old value stays under the old key")
	require.NotEqual(t, keys[1][2], keys[2][2], "the new one is under the new key")
}
