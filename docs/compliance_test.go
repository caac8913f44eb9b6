package docs

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestCompliance requires that each test, command and flag that the page names exists. Each row must name a test and its
// evidence. The page must say who has not checked it.
func TestCompliance(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("compliance.md")
	require.NoError(t, err)
	var tests, command strings.Builder
	for name, source := range sources(t) {
		switch {
		case strings.HasSuffix(name, "_test.go"):
			tests.WriteString(source)
		case strings.HasPrefix(name, "cmd/sealcache/"):
			command.WriteString(source)
		}
	}
	require.Contains(t, string(page), "No lawyer, assessor or auditor has checked this page, for any clause.")
	named := regexp.MustCompile("`(Test\\w+)`").FindAllStringSubmatch(string(page), -1)
	require.Greater(t, len(named), 25)
	for _, n := range named {
		require.True(t, strings.Contains(tests.String(), "\nfunc "+n[1]+"(t *testing.T)"), "no test has the name %s", n[1])
	}
	rows := 0
	for line := range strings.Lines(string(page)) {
		if !strings.HasPrefix(line, "| ") || strings.Contains(line, "| asks for |") {
			continue
		}
		rows++
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		require.Len(t, cells, 5, line)
		require.Contains(t, cells[3], "`Test", line)
		require.True(t, strings.Contains(cells[4], "`sealcache ") || strings.HasPrefix(cells[4], "none: "), line)
	}
	require.Greater(t, rows, 20)
	commands := regexp.MustCompile("(?m)(?:`|^)sealcache ([^`\n]+)").FindAllStringSubmatch(string(page), -1)
	require.Greater(t, len(commands), 20)
	for _, c := range commands {
		requireCommand(t, command.String(), strings.Fields(c[1]))
	}
}

// requireCommand looks for the words of a command line in the source of the command.
func requireCommand(t *testing.T, source string, words []string) {
	t.Helper()
	name := words[0]
	if name == "keys" || name == "kek" {
		require.True(t, strings.Contains(source, `Use: "`+name+`"`), "no group of commands has the name %s", name)
		name = words[1]
	}
	require.True(t, regexp.MustCompile(`use: "`+name+`[" ]`).MatchString(source), "no command has the name %s", name)
	for _, w := range words {
		if flag, ok := strings.CutPrefix(w, "--"); ok {
			require.True(t, strings.Contains(source, `"`+flag+`"`), "no command has the flag --%s", flag)
		}
	}
}
