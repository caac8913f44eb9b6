package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
)

// The exit statuses.
const (
	exitOK     = 0
	exitFailed = 1 // a row could not be measured, or, with -strict, a budget was missed
	exitUsage  = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	status := run(ctx, rows(), os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}

// row is one line of the table of budgets.
type row struct {
	name, about string
	run         func(ctx context.Context, b *bench) error
}

// rows lists them in the order in which they are measured and printed.
func rows() []row {
	return []row{
		{"path", "the whole store path against the bare Tink primitive", pathRow},
		{"keyservice", "an envelope with a slow key service against Tink's own envelope", keyServiceRow},
		{"redis", "sealed against clear, and against TLS, over a real Redis", redisRow},
		{"bytes", "bytes that sealing adds to a value in Redis", bytesRow},
		{"jobs", "jobs on asynq, enqueued and processed, sealed against clear", jobsRow},
		{"migrate", "sealing what lies in Redis in clear, beside a live client", migrateRow},
	}
}

func run(ctx context.Context, all []row, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("benchmarks", flag.ContinueOnError)
	flags.SetOutput(stderr)
	var (
		only     = flags.String("rows", "", "comma-separated names of the `rows` to measure; all by default")
		match    = flags.String("run", "", "measure the cases that match this regular `expression`, as row/case: 'redis/1 KiB.*8 clients'")
		list     = flags.Bool("list", false, "list the rows and end")
		quick    = flags.Bool("quick", false, "fewer and shorter rounds: a glance, with a wide spread")
		smallest = flags.Bool("smallest", false, "one tiny round of each: does it work at all? The figures mean nothing")
		rounds   = flags.Int("rounds", 0, "number of `rounds`; 0 is what suits each row")
		heap     = flags.Int("heap", 0, "live heap in `MiB` that the process holds, as a service does; see README.md")
		output   = flags.String("o", "text", "output `format`: text, markdown or json")
		strict   = flags.Bool("strict", false, "end with status 1 if a budget is missed")
	)
	flags.Usage = func() {
		fmt.Fprintf(stderr, "usage: go run ./benchmarks [flags]\n\nMeasures the budgets of this module and prints them as ratios. Flags:\n")
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return exitOK
		}
		return exitUsage
	}
	fail := func(status int, format string, a ...any) int {
		fmt.Fprintf(stderr, "benchmarks: "+format+"\n", a...)
		return status
	}
	if flags.NArg() > 0 {
		return fail(exitUsage, "unexpected argument %q", flags.Arg(0))
	}
	if *list {
		for _, r := range all {
			if _, err := fmt.Fprintf(stdout, "%-12s %s\n", r.name, r.about); err != nil {
				return exitFailed
			}
		}
		return exitOK
	}
	chosen, err := choose(all, *only)
	if err != nil {
		return fail(exitUsage, "-rows: %v", err)
	}
	expression, err := regexp.Compile(*match)
	if err != nil {
		return fail(exitUsage, "-run: %v", err)
	}
	write, ok := writers()[*output]
	if !ok {
		return fail(exitUsage, "-o: unknown format %q: text, markdown or json", *output)
	}
	if *rounds < 0 {
		return fail(exitUsage, "-rounds: %d is negative", *rounds)
	}
	if *heap < 0 {
		return fail(exitUsage, "-heap: %d is negative", *heap)
	}
	ballast := make([]byte, *heap<<20)
	defer runtime.KeepAlive(ballast)
	b := &bench{match: expression, rounds: *rounds, log: stderr}
	switch {
	case *smallest:
		b.scale = smallestScale
	case *quick:
		b.scale = quickScale
	}

	// What was measured is printed even if a later row fails, or the user has seen enough.
	status := exitOK
	for _, r := range chosen {
		b.row = r.name
		if err := r.run(ctx, b); err != nil {
			status = fail(exitFailed, "row %s: %v", r.name, err)
			if ctx.Err() != nil {
				break
			}
		}
	}
	if len(b.results) == 0 && status == exitOK {
		return fail(exitUsage, "nothing matches")
	}
	if err := write(stdout, report{Machine: describeMachine(context.WithoutCancel(ctx)), Scale: b.scale.String(), HeapMiB: *heap, Results: b.results}); err != nil {
		return fail(exitFailed, "writing the table: %v", err)
	}
	missed := 0
	for _, r := range b.results {
		if r.Verdict == missedVerdict {
			missed++
		}
	}
	if missed > 0 {
		fmt.Fprintf(stderr, "benchmarks: budgets missed: %d\n", missed)
		if *strict && status == exitOK {
			status = exitFailed
		}
	}
	return status
}

func choose(all []row, names string) ([]row, error) {
	if names == "" {
		return all, nil
	}
	wanted := strings.Split(names, ",")
	var known []string
	var chosen []row
	for _, r := range all {
		known = append(known, r.name)
		if slices.Contains(wanted, r.name) {
			chosen = append(chosen, r)
		}
	}
	for _, name := range wanted {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("unknown row %q; there are %s", name, strings.Join(known, ", "))
		}
	}
	return chosen, nil
}
