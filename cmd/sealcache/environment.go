package main

import (
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/sealcache/sealcache/fxmodule"
)

// recordVariable is the only variable that the command reads and applications do not.
const recordVariable = "SEALCACHE_RECORD"

// checkEnvironment refuses unknown SEALCACHE_ variables: a misspelled one would leave a default in force. The settings of
// the application are known. So are the variables to which a setting, a flag or an argument refers.
func checkEnvironment(environ, args []string, f *flags) error {
	var config fxmodule.Config
	if f.config != nil {
		var err error
		if config, err = f.config(); err != nil {
			return err
		}
	}
	unknown := slices.DeleteFunc(fxmodule.UnknownVariables(environ, config, f.given(args)...), func(name string) bool { return name == recordVariable })
	if len(unknown) > 0 {
		return wrong("unknown variable in the environment: %s (unset it, or correct its name)", strings.Join(unknown, ", "))
	}
	return nil
}

// given returns the arguments and the values of the flags on the command line.
func (f *flags) given(args []string) []string {
	values := slices.Clone(args)
	f.Visit(func(g *pflag.Flag) {
		if several, ok := g.Value.(pflag.SliceValue); ok {
			values = append(values, several.GetSlice()...)
		} else {
			values = append(values, g.Value.String())
		}
	})
	return values
}

// applicationEnvironment returns the environment without the variables that only this command uses.
func applicationEnvironment() []string {
	others := fxmodule.UnknownVariables(os.Environ(), fxmodule.Config{})
	return slices.DeleteFunc(os.Environ(), func(variable string) bool {
		name, _, _ := strings.Cut(variable, "=")
		return slices.Contains(others, name)
	})
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
