package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/sealcache/sealcache/middleware/migrate"
)

// outputFlags say what is told and where.
type outputFlags struct {
	json, shown *string
}

func (f *flags) output() *outputFlags {
	return &outputFlags{
		json:  f.String("json", "", "write the report as JSON to this `file` too, or - for the output instead of text"),
		shown: f.String("progress", "auto", "`how` to show progress: bar, lines, none, or auto for a bar on a terminal and lines elsewhere"),
	}
}

// check finds what could not be written after hours of work before they begin.
func (o *outputFlags) check() error {
	switch *o.shown {
	case "auto", "bar", "lines", "none":
	default:
		return wrong("-progress: auto, bar, lines or none")
	}
	if *o.json == "-" {
		return nil
	}
	return writable("-json", *o.json)
}

// writable finds out whether a file could be replaced.
func writable(name, path string) error {
	if path == "" {
		return nil
	}
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return wrong("%s: %s is not a file", name, path)
	}
	f, err := createBeside(path)
	if err != nil {
		return wrong("%s: %v", name, err)
	}
	_ = f.Close()
	if err := os.Remove(f.Name()); err != nil {
		return wrong("%s: %v", name, err)
	}
	return nil
}

// every is how often progress is told. Lines that nobody watches are few.
func (o *outputFlags) every() time.Duration {
	if o.bar() {
		return 200 * time.Millisecond
	}
	return 5 * time.Second
}

func (o *outputFlags) bar() bool {
	return *o.shown == "bar" || *o.shown == "auto" && term.IsTerminal(int(os.Stderr.Fd()))
}

// write writes the report: as text in any case, so that it is not lost if the file cannot be written.
func (o *outputFlags) write(p *program, report any, text func(io.Writer) error) error {
	var errs []error
	if *o.json != "-" {
		errs = append(errs, text(p.stdout))
	}
	if *o.json != "" {
		if err := writeJSON(p, *o.json, report); err != nil {
			errs = append(errs, fmt.Errorf("writing the report: %w", err))
		}
	}
	return errors.Join(errs...)
}

// progress returns what shows progress, and what ends it.
func (o *outputFlags) progress(p *program, what string) (show func(migrate.Progress), done func()) {
	switch {
	case *o.shown == "none":
		return nil, func() {}
	case o.bar():
		const steps = 10000
		bar := progressbar.NewOptions(steps,
			progressbar.OptionSetWriter(p.stderr), progressbar.OptionSetDescription(what),
			progressbar.OptionFullWidth(), progressbar.OptionSetPredictTime(false), progressbar.OptionShowElapsedTimeOnFinish())
		return func(s migrate.Progress) {
				bar.Describe(fmt.Sprintf("%s %d seen, %d written, %.0f/s%s", what, s.Seen, s.Written, s.Rate, remaining(s)))
				_ = bar.Set(int(s.Fraction * steps))
			}, func() {
				_ = bar.Exit()
				fmt.Fprintln(p.stderr)
			}
	default:
		var last time.Duration
		return func(s migrate.Progress) {
			if s.Final || s.Elapsed-last < o.every() {
				return // the report follows, or there was a line already
			}
			last = s.Elapsed
			fmt.Fprintf(p.stderr, "%s: %.1f%%, %d seen, %d written, %.0f/s%s\n", what, 100*s.Fraction, s.Seen, s.Written, s.Rate, remaining(s))
		}, func() {}
	}
}

func remaining(s migrate.Progress) string {
	if s.Remaining <= 0 {
		return ""
	}
	return ", " + s.Remaining.Round(time.Second).String() + " left"
}
