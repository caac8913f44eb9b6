package redisstore

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The error about an unknown option sends its reader to docs/stores.md, so the guide lists all of them.
func TestGuideListsURLOptions(t *testing.T) {
	t.Parallel()
	guide, err := os.ReadFile("../../docs/stores.md")
	require.NoError(t, err)
	_, chapter, ok := strings.Cut(string(guide), "\n### Options of a URL\n")
	require.True(t, ok)
	chapter, _, _ = strings.Cut(chapter, "\n### ")
	var known, listed []string
	for _, o := range options() {
		known = append(known, o.name)
	}
	for _, row := range regexp.MustCompile("(?m)^\\| (`.*?) \\|").FindAllStringSubmatch(chapter, -1) {
		for name := range strings.SplitSeq(row[1], ", ") {
			listed = append(listed, strings.Trim(name, "`"))
		}
	}
	require.ElementsMatch(t, known, listed)
}
