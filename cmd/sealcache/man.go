package main

import (
	"context"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
	"github.com/spf13/pflag"
)

func manCommand() entry {
	return entry{
		use: "man DIR", short: "Write the man pages to a directory", make: func() command { return new(manRun) },
		long:    "Man writes one man page for each command to the directory DIR, which it makes if it is missing.",
		example: "  sealcache man /usr/local/share/man/man1",
	}
}

type manRun struct{}

func (manRun) declare(*flags) {}

func (manRun) run(_ context.Context, _ *program, f *flags) (int, error) {
	if err := os.MkdirAll(f.args[0], 0o755); err != nil {
		return 0, fileError(err)
	}
	root := f.cmd.Root()
	root.DisableAutoGenTag = true
	escapeForMan(root)
	return exitDone, doc.GenManTree(root, &doc.GenManHeader{Section: "1", Source: "sealcache", Manual: "sealcache"}, f.args[0])
}

// escapeForMan changes the texts of a command and of those below it, because package doc reads them as Markdown. It leaves
// the examples, which package doc writes as code.
func escapeForMan(cmd *cobra.Command) {
	cmd.Use, cmd.Short, cmd.Long = markdownOf(cmd.Use), markdownOf(cmd.Short), paragraphsOf(cmd.Long)
	cmd.InitDefaultHelpFlag()
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		f.Usage = markdownOf(strings.ReplaceAll(f.Usage, "`", ""))
		if f.DefValue == "[]" {
			f.DefValue = ""
		}
	})
	for _, c := range cmd.Commands() {
		escapeForMan(c)
	}
}

// markdownOf returns a text without markup as Markdown.
func markdownOf(text string) string {
	return strings.NewReplacer(`\`, `\\`, "_", `\_`, "*", `\*`, "`", "\\`", "<", `\<`, "[", `\[`, "]", `\]`).Replace(text)
}

// paragraphsOf is markdownOf for a description. Its indented lines are lists and tables, so they become code.
func paragraphsOf(text string) string {
	var b strings.Builder
	indented := false
	for line := range strings.Lines(text) {
		code := strings.HasPrefix(line, "  ")
		if code != indented {
			b.WriteByte('\n')
		}
		if indented = code; code {
			b.WriteString("    " + line)
		} else {
			b.WriteString(markdownOf(line))
		}
	}
	return b.String()
}
