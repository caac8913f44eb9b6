package main

import (
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

func (o *outputFlags) check() error {
	switch *o.shown {
	case "auto", "bar", "lines", "none":
		return nil
	default:
		return wrong("-progress: auto, bar, lines or none")
	}
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

// write writes the report.
func (o *outputFlags) write(p *program, report any, text func(io.Writer) error) error {
	if *o.json != "" {
		if err := writeJSON(p, *o.json, report); err != nil {
			return fmt.Errorf("writing the report: %w", err)
		}
		if *o.json == "-" {
			return nil
		}
	}
	return text(p.stdout)
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
		return func(s migrate.Progress) {
			if s.Final {
				return // the report follows
			}
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
