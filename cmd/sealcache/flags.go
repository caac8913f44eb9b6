package main

import (
	"flag"
	"fmt"
	"os"
	"strings"

	"github.com/sealcache/sealcache/middleware/migrate"
)

// flags are those of one command.
type flags struct {
	*flag.FlagSet
	p       *program
	c       command
	fromEnv map[string]string // flag to variable
}

func newFlags(p *program, c command) *flags {
	f := &flags{FlagSet: flag.NewFlagSet(c.name, flag.ContinueOnError), p: p, c: c, fromEnv: map[string]string{}}
	f.SetOutput(p.stderr)
	f.Usage = func() {
		fmt.Fprintf(p.stderr, "usage: sealcache %s [flags] %s\n\n%s\n\n", c.name, c.args, c.about)
		f.PrintDefaults()
	}
	return f
}

// env is a string flag whose default is in the environment. The environment's value is not shown by -h: it may hold a
// password.
func (f *flags) env(name, variable, usage string) *string {
	f.fromEnv[name] = variable
	return f.String(name, "", usage+" (or "+variable+")")
}

// parse reads the arguments. rest is how many follow the flags.
func (f *flags) parse(args []string, rest int) error {
	if err := f.Parse(args); err != nil {
		if err == flag.ErrHelp { //nolint:errorlint // that is what Parse returns
			return err
		}
		return wrong("see sealcache %s -h", f.c.name)
	}
	if f.NArg() != rest {
		if rest == 0 {
			return wrong("there are no arguments after the flags")
		}
		return wrong("it takes one argument after the flags: %s", f.c.args)
	}
	for name, variable := range f.fromEnv {
		if !f.given(name) {
			if v := os.Getenv(variable); v != "" {
				if err := f.Lookup(name).Value.Set(v); err != nil {
					return wrong("%s: %v", variable, err)
				}
			}
		}
	}
	return nil
}

// given tells whether a flag stands on the command line.
func (f *flags) given(name string) bool {
	found := false
	f.Visit(func(g *flag.Flag) { found = found || g.Name == name })
	return found
}

// list is a flag that may be repeated.
type list []string

func (l *list) String() string { return strings.Join(*l, ", ") }

func (l *list) Set(s string) error {
	if s == "" {
		return fmt.Errorf("empty")
	}
	*l = append(*l, s)
	return nil
}

// spaceFlags say where.
type spaceFlags struct {
	f                     *flags
	namespace, prefix     *string
	toNamespace, toPrefix *string
	all                   *bool
}

func (f *flags) space() *spaceFlags {
	return &spaceFlags{
		f:         f,
		namespace: f.env("namespace", "SEALCACHE_NAMESPACE", "`namespace` of the application's store"),
		prefix:    f.String("prefix", "", "only keys that begin with this `text`, as the application gives them"),
		all:       f.Bool("all", false, "the whole database, if neither namespace nor prefix is given"),
	}
}

// from is the space, which must be narrowed down or meant.
func (s *spaceFlags) from() (migrate.Space, error) {
	space := migrate.Space{Namespace: *s.namespace, Prefix: *s.prefix}
	if space == (migrate.Space{}) && !*s.all {
		return space, wrong("say where: -namespace, -prefix, or -all for the whole database")
	}
	if space != (migrate.Space{}) && *s.all {
		return space, wrong("-all contradicts -namespace and -prefix")
	}
	if space.Namespace != "" && strings.HasPrefix(space.Prefix, space.Namespace+":") {
		return space, wrong("-prefix: keys are given as the application gives them, without the namespace %[1]q%[2]s, so leave \"%[1]s:\" out of it", space.Namespace, s.whence())
	}
	return space, nil
}

func (s *spaceFlags) withTo() *spaceFlags {
	s.toNamespace = s.f.String("to-namespace", "", "new `namespace`: NOT safe beside writers, see the runbook")
	s.toPrefix = s.f.String("to-prefix", "", "new `text` in place of -prefix: NOT safe beside writers, see the runbook")
	return s
}

// whence tells a namespace that is not on the command line.
func (s *spaceFlags) whence() string {
	if s.f.given("namespace") {
		return ""
	}
	return " (of SEALCACHE_NAMESPACE)"
}

// to is nil if nothing is to be moved. What is not given stays.
func (s *spaceFlags) to() (*migrate.Space, error) {
	if !s.f.given("to-namespace") && !s.f.given("to-prefix") {
		return nil, nil //nolint:nilnil // there is none
	}
	to := migrate.Space{Namespace: *s.namespace, Prefix: *s.prefix}
	if s.f.given("to-namespace") {
		to.Namespace = *s.toNamespace
	}
	if s.f.given("to-prefix") {
		to.Prefix = *s.toPrefix
	}
	if to.Namespace == *s.namespace && to.Prefix == *s.prefix {
		hint := ""
		if !s.f.given("namespace") && *s.namespace != "" {
			hint = "; for names without a namespace say -namespace ''"
		}
		return nil, wrong("it would move from namespace %q%s and prefix %q to the same%s", *s.namespace, s.whence(), *s.prefix, hint)
	}
	return &to, nil
}
