package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// program is the environment of a command.
type program struct {
	stdout io.Writer
	stderr io.Writer
	log    *slog.Logger
}

// command is one command. A new one is made for each run.
type command interface {
	// declare adds the flags. It names the required ones.
	declare(f *flags)
	// run returns an exit status, or an error whose status statusOf returns.
	run(ctx context.Context, p *program, f *flags) (int, error)
}

// entry is a line of the table of commands.
type entry struct {
	use     string // the name and the arguments
	short   string
	long    string
	example string
	make    func() command
}

// run is the program without the process around it.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	silenceRedis()
	p := &program{stdout: stdout, stderr: stderr, log: slog.New(slog.NewTextHandler(flagWriter{stderr}, nil))}
	root := newRoot(p) //nolint:contextcheck // cobra hands ctx to the command that it runs
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil {
		if text := message(err); text != "" {
			fmt.Fprintf(stderr, "%s: %s\n", cmd.CommandPath(), text)
		}
		return statusOf(err)
	}
	return exitDone
}

// rootLong is the description of the program, with the table of exit statuses.
func rootLong() string {
	return `Sealcache seals (encrypts), unseals and examines the data that applications keep in Redis. It also makes and changes their
keysets. A keyset is a file with encryption keys.

Exit statuses:
` + statusesText() + `
Environment variables:
  The variables of the application give the defaults of flags: SEALCACHE_STORE of --redis, SEALCACHE_NAMESPACE of
  --namespace, SEALCACHE_KEK of --kek, SEALCACHE_KEYSET of --keyset, SEALCACHE_KEYSET_NAME of --keyset-name. The help of a
  command names the variables of its other flags. SEALCACHE_RECORD gives the default of --record of "sealcache get".
  A flag that is given wins. An unknown SEALCACHE_ variable is an error.`
}

const rootExample = `  sealcache kek create file:///run/secrets/kek.json
  sealcache keys create --kek file:///run/secrets/kek.json --out keyset.json
  sealcache audit --redis redis://localhost:6379/0 --prefix shop:
  sealcache migrate --namespace shop --dry-run
  sealcache completion bash > /etc/bash_completion.d/sealcache`

func newRoot(p *program) *cobra.Command {
	root := &cobra.Command{
		Use: "sealcache", Short: "Move and examine sealed data in Redis, and manage keysets",
		Long: rootLong(), Example: rootExample,
		Version: versionText(),
	}
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetUsageTemplate(usageTemplate(root.UsageTemplate()))
	root.AddGroup(&cobra.Group{ID: "data", Title: "Commands for data:"}, &cobra.Group{ID: "keys", Title: "Commands for keys:"})
	group(root)
	keys := &cobra.Command{
		Use: "keys", Short: "Make, list and rotate keysets", GroupID: "keys", SuggestFor: []string{"rotate", "keyset", "key"},
		Long:    "The commands of this group make, list and rotate keysets.",
		Example: keysEnv + "  sealcache keys list\n  sealcache help keys rotate",
	}
	group(keys)
	for _, e := range dataCommands() {
		cmd := p.cobra(e)
		cmd.GroupID = "data"
		root.AddCommand(cmd)
	}
	for _, e := range keysCommands() {
		keys.AddCommand(p.cobra(e))
	}
	kek := &cobra.Command{
		Use: "kek", Short: "Make and check key-encryption keys", GroupID: "keys",
		Long:    "The commands of this group make and check a key-encryption key (KEK), which seals keysets or wraps data keys.",
		Example: "  sealcache kek create /run/secrets/kek.json\n  sealcache kek check file:///run/secrets/kek.json",
	}
	group(kek)
	for _, e := range kekCommands() {
		kek.AddCommand(p.cobra(e))
	}
	report := p.cobra(evidenceCommand())
	report.GroupID = "keys"
	root.AddCommand(keys, kek, report, p.cobra(versionCommand()), p.cobra(manCommand()))
	root.SetHelpCommand(helpCommand(root))
	root.SetFlagErrorFunc(flagError)
	root.SetOut(p.stdout) // cobra's command keeps it
	completion(root)
	return root
}

// completion adds cobra's command for shells. An unknown shell is a usage error.
func completion(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		if cmd.Name() != "completion" {
			continue
		}
		group(cmd)
		cmd.Example = "  sealcache completion bash > /etc/bash_completion.d/sealcache\n  sealcache completion fish > ~/.config/fish/completions/sealcache.fish"
		for _, shell := range cmd.Commands() {
			shell.SilenceErrors, shell.SilenceUsage = true, true
			shell.Args = func(_ *cobra.Command, args []string) error {
				if len(args) > 0 {
					return tooManyArguments(nil)
				}
				return nil
			}
		}
	}
}

// usageTemplate wraps the descriptions of flags.
func usageTemplate(standard string) string {
	return strings.ReplaceAll(standard, ".FlagUsages ", ".FlagUsagesWrapped 110 ")
}

// group makes a command that only groups others. Without one of them it is a usage error.
func group(cmd *cobra.Command) {
	cmd.SilenceErrors, cmd.SilenceUsage, cmd.DisableFlagsInUseLine = true, true, true
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			cmd.SetOut(cmd.ErrOrStderr())
			_ = cmd.Help()
			return &statusError{exitUsage, errPrinted}
		}
		return unknownCommand(cmd, args[0])
	}
}

// unknownCommand repeats the word only if it has the form of a command's name: it may be a misplaced secret.
func unknownCommand(cmd *cobra.Command, word string) error {
	shown := ""
	if regexp.MustCompile(`^[a-z-]{1,20}$`).MatchString(word) {
		shown = fmt.Sprintf(" %q", word)
	}
	if near := suggestions(cmd, word); len(near) > 0 {
		return wrong("unknown command%s (did you mean %s?)", shown, strings.Join(near, " or "))
	}
	return wrong("unknown command%s (%q lists the commands)", shown, strings.Replace(cmd.CommandPath(), "sealcache", "sealcache help", 1))
}

// suggestions returns the names of the commands below cmd that a user may have meant by an unknown word.
func suggestions(cmd *cobra.Command, word string) []string {
	cmd.SuggestionsMinimumDistance = 2
	if len(word) <= 4 {
		cmd.SuggestionsMinimumDistance = 1 // most short words are two edits away from another one
	}
	return slices.Compact(slices.Sorted(slices.Values(cmd.SuggestionsFor(word))))
}

func helpCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND]", Short: "Show the help of a command",
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			var names []string
			if cmd, rest, err := root.Find(args); err == nil && len(rest) == 0 {
				for _, c := range cmd.Commands() {
					if c.IsAvailableCommand() {
						names = append(names, c.Name()+"\t"+c.Short)
					}
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error {
			cmd, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				if cmd == nil {
					cmd, rest = root, args
				}
				return unknownCommand(cmd, rest[0])
			}
			cmd.InitDefaultHelpFlag()
			return cmd.Help()
		},
	}
}

// cobra makes the cobra command of an entry.
func (p *program) cobra(e entry) *cobra.Command {
	c := e.make()
	cmd := &cobra.Command{
		Use: e.use, Short: e.short, Long: cmp.Or(e.long, e.short+"."), Example: e.example,
		Args: cobra.ArbitraryArgs, SilenceErrors: true, SilenceUsage: true,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	f := &flags{FlagSet: cmd.Flags(), cmd: cmd, fromEnv: map[string]string{}}
	f.SortFlags = false
	f.names = strings.Fields(e.use)[1:]
	c.declare(f)
	f.describe()
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := f.resolve(args, os.Environ()); err != nil {
			return err
		}
		status, err := c.run(cmd.Context(), p, f)
		if err == nil && status != exitDone {
			err = &statusError{status, errPrinted}
		}
		return err
	}
	return cmd
}
