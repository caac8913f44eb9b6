// Package runbooktest runs the shell commands in a Markdown document, so that a test can check that they work. Begin
// with [Open].
package runbooktest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Runbook is a document, whose commands a test takes in their order.
type Runbook struct {
	// Dir is the directory in which the commands run.
	Dir string
	// Words are what a reader would put in the place of the examples of the text.
	Words map[string]string
	// Environ is the environment of the commands. Nil is that of the test.
	Environ []string
	// At is the number of the block of commands that is next.
	At int

	blocks []block
}

type block struct {
	section string
	lines   []string
}

// environment is the file that keeps what the commands export.
const environment = "environment"

// Open reads the blocks of shell commands of a document. They belong to its sections of the second level.
func Open(t *testing.T, file string) *Runbook {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b := &Runbook{Dir: t.TempDir(), Words: map[string]string{}}
	if err := os.WriteFile(filepath.Join(b.Dir, environment), nil, 0o600); err != nil {
		t.Fatal(err)
	}
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
	if inside {
		t.Fatalf("the document %s ends within a block of commands (is a line of three backquotes missing?)", file)
	}
	return b
}

// Follow runs the next block, which must be of this section, and returns what its commands said. Each command must end with the
// status that the comment behind it promises, 0 without one.
func (b *Runbook) Follow(t *testing.T, section string) string {
	t.Helper()
	if !b.HasMore(section) {
		t.Fatalf("the next commands of the document are not under %q", section)
	}
	now := b.blocks[b.At]
	b.At++
	promise := regexp.MustCompile(`# status ([0-9])`)
	var all strings.Builder
	for _, line := range now.lines {
		want := "0"
		if m := promise.FindStringSubmatch(line); m != nil {
			want = m[1]
		}
		for example, word := range b.Words {
			line = strings.ReplaceAll(line, example, word)
		}
		script := ". ./" + environment + "\n" + line
		if strings.HasPrefix(line, "export ") { // for the commands after it, too
			script += "\nexport -p >" + environment
		}
		cmd := exec.CommandContext(t.Context(), "sh", "-c", script)
		cmd.Dir, cmd.Env = b.Dir, b.Environ
		out, _ := cmd.CombinedOutput() // its status is compared
		if got := fmt.Sprint(cmd.ProcessState.ExitCode()); got != want {
			t.Fatalf("a command of the document ended with status %s, want %s: %s\n%s", got, want, line, out)
		}
		all.Write(out)
	}
	return all.String()
}

// Begin goes to the first commands of a section.
func (b *Runbook) Begin(t *testing.T, section string) {
	t.Helper()
	for b.At = range b.blocks {
		if b.blocks[b.At].section == section {
			return
		}
	}
	t.Fatalf("the document has no commands under %q", section)
}

// HasMore reports whether the section has more commands.
func (b *Runbook) HasMore(section string) bool {
	return b.At < len(b.blocks) && b.blocks[b.At].section == section
}

// End fails the test if commands of the document were not followed.
func (b *Runbook) End(t *testing.T) {
	t.Helper()
	if b.At != len(b.blocks) {
		t.Fatalf("the test did not run the last %d blocks of commands in the document", len(b.blocks)-b.At)
	}
}
