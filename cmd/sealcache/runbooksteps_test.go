package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// runbook is the runbook, whose commands a test takes in their order.
type runbook struct {
	blocks []block
	at     int
	dir    string            // where they run
	words  map[string]string // what a reader would put in the place of the examples of the text
}

type block struct {
	section string
	lines   []string
}

// openRunbook reads the text.
func openRunbook(t *testing.T) *runbook {
	t.Helper()
	return openRunbookOf(t, runbookFile)
}

// openRunbookOf reads the commands of a document.
func openRunbookOf(t *testing.T, file string) *runbook {
	t.Helper()
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	b := &runbook{dir: t.TempDir(), words: map[string]string{}}
	require.NoError(t, os.WriteFile(filepath.Join(b.dir, "environment"), nil, 0o600))
	section, inside := "", false
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		switch {
		case inside && line == "```":
			inside = false
		case inside:
			last := &b.blocks[len(b.blocks)-1]
			last.lines = append(last.lines, line)
		case line == "```sh":
			inside = true
			b.blocks = append(b.blocks, block{section: section})
		case strings.HasPrefix(line, "## "):
			section = strings.TrimPrefix(line, "## ")
		}
	}
	require.False(t, inside)
	return b
}

// follow runs the next commands of the text, which must be of this section, in a shell, as a reader would. Each ends with
// the status that the comment behind it promises, 0 without one. What they said is returned.
func (b *runbook) follow(t *testing.T, section string) string {
	t.Helper()
	require.Less(t, b.at, len(b.blocks), "the runbook has no more commands")
	now := b.blocks[b.at]
	b.at++
	require.Equal(t, section, now.section)
	promise := regexp.MustCompile(`# status ([0-9])`)
	var all strings.Builder
	for _, line := range now.lines {
		want := "0"
		if m := promise.FindStringSubmatch(line); m != nil {
			want = m[1]
		}
		for example, word := range b.words {
			line = strings.ReplaceAll(line, example, word)
		}
		environment := filepath.Join(b.dir, "environment")
		if strings.HasPrefix(line, "export ") {
			f, err := os.OpenFile(environment, os.O_APPEND|os.O_WRONLY, 0o600)
			require.NoError(t, err)
			_, err = fmt.Fprintln(f, line)
			require.NoError(t, err)
			require.NoError(t, f.Close())
			continue
		}
		cmd := exec.CommandContext(t.Context(), "sh", "-c", ". ./environment\n"+line)
		cmd.Dir = b.dir
		out, _ := cmd.CombinedOutput()
		require.Equal(t, want, fmt.Sprint(cmd.ProcessState.ExitCode()), "%s\n%s", line, out)
		all.Write(out)
	}
	return all.String()
}

// begin goes to the first commands of a section.
func (b *runbook) begin(t *testing.T, section string) {
	t.Helper()
	for b.at = range b.blocks {
		if b.blocks[b.at].section == section {
			return
		}
	}
	t.Fatalf("the document has no commands under %q", section)
}

// left reports whether the section has more commands.
func (b *runbook) left(section string) bool {
	return b.at < len(b.blocks) && b.blocks[b.at].section == section
}

// end sees that nothing was left out.
func (b *runbook) end(t *testing.T) {
	t.Helper()
	require.Equal(t, len(b.blocks), b.at, "commands of the runbook were not followed")
}

// ids are those of a keyset's keys, in its order.
func ids(t *testing.T, file string) []string {
	t.Helper()
	data, err := os.ReadFile(file)
	require.NoError(t, err)
	var all []string
	for _, m := range regexp.MustCompile(`"keyId": *([0-9]+)`).FindAllStringSubmatch(string(data), -1) {
		all = append(all, m[1])
	}
	return all
}
