package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/middleware/audit"
	"github.com/sealcache/sealcache/middleware/migrate"
)

// The exit statuses. The table exitMeanings describes them.
const (
	exitDone    = 0
	exitFailed  = 1
	exitUsage   = 2
	exitLeft    = 3
	exitUnknown = 4
)

// statusError gives an error its own exit status.
type statusError struct {
	status int
	err    error
}

func (e *statusError) Error() string { return e.err.Error() }
func (e *statusError) Unwrap() error { return e.err }

// errPrinted is the reason of an exit status that is already printed.
var errPrinted = errors.New("")

// wrong returns a fault of the command line or of the configuration. Nothing was done.
func wrong(format string, a ...any) error { return &statusError{exitUsage, fmt.Errorf(format, a...)} }

func statusOf(err error) int {
	var own *statusError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &own):
		return own.status
	case errors.Is(err, migrate.ErrConfig), errors.Is(err, audit.ErrConfig):
		return exitUsage
	default:
		return exitFailed
	}
}

// keyError marks a failure to open keys as a fault of the configuration, unless a key service or a file did not answer.
func keyError(err error) error {
	if err == nil || errors.Is(err, aead.ErrKeyServiceUnavailable) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return &statusError{exitUsage, err}
}

// message returns the text of an error without package names and repeated lines.
func message(err error) string {
	packages := regexp.MustCompile(`(^|: )((migrate|audit|aead|redisstore): )+`)
	var lines []string
	for line := range strings.Lines(err.Error()) {
		line = packages.ReplaceAllString(strings.TrimRight(line, "\n"), "$1")
		if !slices.Contains(lines, line) {
			lines = append(lines, line)
		}
	}
	return withFlags(strings.Join(lines, "\n"))
}

// flagError explains an error of the flag parser in one line. It does not repeat values, which may be secrets.
func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	var value *pflag.InvalidValueError
	var missing *pflag.ValueRequiredError
	switch {
	case errors.Is(err, pflag.ErrHelp):
		return err
	case errors.As(err, &value):
		return wrong("--%s: %w", value.GetFlag().Name, valueError(value.GetFlag(), value.Unwrap()))
	case errors.As(err, &missing):
		return wrong("--%s: the value is missing", missing.GetFlag().Name)
	case errors.As(err, &unknown):
		return wrong("unknown flag%s", describeUnknown(cmd, unknown))
	default:
		return wrong("a flag on the command line is malformed (%q lists the flags)", "sealcache help"+strings.TrimPrefix(cmd.CommandPath(), "sealcache"))
	}
}

// valueError explains why a flag refused a value. The errors of pflag's types quote the value. The errors of
// this package do not.
func valueError(f *pflag.Flag, err error) error {
	if form := wantedForm(f.Value.Type()); form != "" {
		return fmt.Errorf("the value must be %s", form)
	}
	return err
}

// wantedForm describes the values of a type of pflag. It is empty for the types of this package.
func wantedForm(kind string) string {
	switch kind {
	case "int", "int64", "uint32":
		return "a whole number"
	case "float64":
		return "a number"
	case "duration":
		return "a duration such as 5ms"
	case "bool":
		return "true or false"
	case "stringSlice":
		return "a list with commas"
	case "stringToString":
		return "a list of NAME=VALUE with commas"
	default:
		return ""
	}
}

// describeUnknown shows the name of an unknown flag, without the value, and suggests others. A secret may stand after one
// dash, as in -pSECRET, so only its first letter is shown.
func describeUnknown(cmd *cobra.Command, unknown *pflag.NotExistError) string {
	const most = 30
	name, dashes := unknown.GetSpecifiedName(), "--"
	letters, _, _ := strings.Cut(unknown.GetSpecifiedShortnames(), "=")
	if letters != "" {
		if cmd.Flags().Lookup(letters) != nil {
			return fmt.Sprintf(" -%[1]s (flags take two dashes: --%[1]s)", letters)
		}
		dashes = "-"
	}
	shown := regexp.MustCompile(`^[A-Za-z0-9-]*`).FindString(name)
	if shown != "" {
		shown = " " + dashes + shown[:min(len(shown), most)]
	}
	word, _, _ := strings.Cut(cmp.Or(letters, name), "=")
	names := new(cobra.Command) // cobra's measure for commands serves for flags
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names.AddCommand(&cobra.Command{Use: f.Name, Run: func(*cobra.Command, []string) {}})
		}
	})
	if near := suggestions(names, word); len(near) > 0 && word != "" {
		return fmt.Sprintf("%s (did you mean --%s?)", shown, strings.Join(near, " or --"))
	}
	return fmt.Sprintf("%s (%q lists the flags)", shown, "sealcache help"+strings.TrimPrefix(cmd.CommandPath(), "sealcache"))
}
