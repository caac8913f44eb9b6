package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sealcache/sealcache/fxmodule"
)

// flags are the flags and the arguments of one command.
type flags struct {
	*pflag.FlagSet
	cmd     *cobra.Command
	fromEnv map[string]string // flag to variable
	needed  [][]string        // each a choice of flags, one of which is required
	names   []string          // of the arguments
	args    []string
	config  func() (fxmodule.Config, error) // reads the settings that a flag names; nil for most commands
}

// env declares a string flag whose default is an environment variable. Help never shows the variable's value, which may
// hold a password.
func (f *flags) env(to *string, name, variable, usage string) {
	f.fromEnv[name] = variable
	f.StringVar(to, name, "", usage)
}

// otherKEKs declares --other-kek, which may be repeated. Its default is a variable with commas.
func (f *flags) otherKEKs(to *[]string) {
	f.fromEnv["other-kek"] = "SEALCACHE_OTHER_KEKS"
	f.StringSliceVar(to, "other-kek", nil, otherKEKsUse)
}

// pairs declares a flag that takes NAME=VALUE,... Help shows no default.
func (f *flags) pairs(to *map[string]string, name, usage string) {
	f.StringToStringVar(to, name, nil, usage)
	f.Lookup(name).DefValue = ""
}

// choice declares a flag that takes one of a few words. The first is the default.
func (f *flags) choice(to *string, name, usage string, words ...string) {
	*to = words[0]
	f.Var(&choice{to, words}, name, usage)
	_ = f.cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
}

// file reports whether a flag takes the name of a file, for shell completion.
func (f *flags) file(names ...string) {
	for _, name := range names {
		_ = f.cmd.MarkFlagFilename(name)
	}
}

// need requires one of the flags. A command may also call it in run, for flags that depend on others. It then returns
// missing.
func (f *flags) need(choice ...string) { f.needed = append(f.needed, choice) }

// describe completes the descriptions of the flags: required, and the variable.
func (f *flags) describe() {
	f.VisitAll(func(g *pflag.Flag) {
		var notes []string
		for _, choice := range f.needed {
			switch {
			case choice[0] != g.Name:
			case len(choice) == 1:
				notes = append(notes, "required")
			default:
				notes = append(notes, "one of --"+strings.Join(choice, ", --")+" is required")
			}
		}
		if v := f.fromEnv[g.Name]; v != "" {
			notes = append(notes, "or "+v)
		}
		if len(notes) > 0 {
			g.Usage += " (" + strings.Join(notes, "; ") + ")"
		}
	})
}

// resolve reads flags that were not given from the environment, and reports all missing ones at once.
func (f *flags) resolve(args, environ []string) error {
	for _, name := range sortedKeys(f.fromEnv) {
		variable := f.fromEnv[name]
		if v := os.Getenv(variable); v != "" && !f.Changed(name) {
			if err := f.Lookup(name).Value.Set(v); err != nil {
				return wrong("%s: %w", variable, valueError(f.Lookup(name), err))
			}
			if name == "keyset" && !isKeysetOfVariable(v) {
				return wrong("%s: the value must be env:NAME, file:///path, or a path that starts with \"/\" or \".\"", variable)
			}
		}
	}
	if err := checkEnvironment(environ, args, f); err != nil {
		return err
	}
	f.args = args
	if len(args) > len(f.names) {
		return tooManyArguments(f.names)
	}
	return f.missing()
}

// isKeysetOfVariable reports whether fxmodule takes the value of SEALCACHE_KEYSET, too. A flag may also be a path such as keyset.json.
func isKeysetOfVariable(v string) bool {
	return filepath.IsAbs(v) || strings.HasPrefix(v, "/") || strings.HasPrefix(v, ".") || strings.HasPrefix(v, "env:") || strings.HasPrefix(v, "file:")
}

// missing names the required flags and arguments that were not given.
func (f *flags) missing() error {
	var lacks []string
	lacks = append(lacks, f.names[len(f.args):]...)
	for _, choice := range f.needed {
		if !slices.ContainsFunc(choice, func(name string) bool { return f.isSet(name) }) {
			var words []string
			for _, name := range choice {
				words = append(words, f.spell(name))
			}
			if len(words) > 1 {
				words[0] = "one of " + words[0]
			}
			lacks = append(lacks, strings.Join(words, " | "))
		}
	}
	if len(lacks) == 0 {
		return nil
	}
	return wrong("missing: %s", strings.Join(lacks, ", "))
}

func (f *flags) isSet(name string) bool {
	switch v := f.Lookup(name).Value.String(); v {
	case "", "false", "[]":
		return false
	default:
		return true
	}
}

// refuseWithout refuses flags on the command line that have no effect without another one. Variables may be meant for other
// commands.
func (f *flags) refuseWithout(needed string, names ...string) error {
	for _, name := range names {
		if f.Changed(name) && f.isSet(name) {
			return wrong("--%s needs %s", name, needed)
		}
	}
	return nil
}

// notNegative returns an error for each of these flags that is negative or not a number.
func (f *flags) notNegative(names ...string) error {
	var errs []error
	for _, name := range names {
		if v := f.Lookup(name).Value.String(); strings.HasPrefix(v, "-") || v == "NaN" {
			errs = append(errs, wrong("--%s must not be negative", name))
		}
	}
	return errors.Join(errs...)
}

// spell returns a flag with its kind of value and its variable.
func (f *flags) spell(name string) string {
	kind, _ := pflag.UnquoteUsage(f.Lookup(name))
	text := strings.TrimSpace("--" + name + " " + kind)
	if v := f.fromEnv[name]; v != "" {
		text += " (or " + v + ")"
	}
	return text
}

// namespaceSource names the variable if the namespace is from the environment.
func (f *flags) namespaceSource() string {
	const name = "namespace"
	if v := f.fromEnv[name]; os.Getenv(v) != "" && !f.Changed(name) {
		return " (from " + v + ")"
	}
	return ""
}

// tooManyArguments names the arguments that a command takes.
func tooManyArguments(names []string) error {
	if len(names) == 0 {
		names = []string{"none"}
	}
	return wrong("there are too many arguments (this command takes %s)", strings.Join(names, " "))
}

// choice is one of a few words.
type choice struct {
	to    *string
	words []string
}

func (c *choice) String() string { return *c.to }
func (c *choice) Type() string   { return strings.Join(c.words, "|") }

func (c *choice) Set(s string) error {
	if !slices.Contains(c.words, s) {
		last := len(c.words) - 1
		return fmt.Errorf("the value must be \"%s\" or %q", strings.Join(c.words[:last], "\", \""), c.words[last])
	}
	*c.to = s
	return nil
}

// list is a flag that may be repeated. No value is split: a name may contain a comma.
type list []string

func (l *list) String() string { return strings.Join(*l, ", ") }
func (l *list) Type() string   { return "text" }

func (l *list) Set(s string) error {
	if s == "" {
		return errors.New("the value is empty")
	}
	*l = append(*l, s)
	return nil
}

// namespaces is a list in which ” stands for none, against the one of the environment.
type namespaces []string

func (n *namespaces) String() string { return strings.Join(*n, ", ") }
func (n *namespaces) Type() string   { return "text" }

func (n *namespaces) Set(s string) error {
	if s == "" {
		*n = nil
		return nil
	}
	*n = append(*n, s)
	return nil
}
