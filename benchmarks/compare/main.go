// Command compare measures sealcache and other encryption libraries on the same bytes, in one run:
//
//	cd benchmarks/compare && go run .
//
// The libraries take turns in short slices of time, because the speed of a machine changes over time. README.md lists the
// libraries and says how each is used. The command is a separate Go module, so that users of sealcache do not get the
// dependencies of these libraries.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/sealcache/sealcache/benchmarks/internal/steps"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	status := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}

// comparison prints the figures of some libraries to a table.
type comparison struct {
	*steps.Steps
	extent
	table io.Writer
}

// extent is how long each figure is measured.
type extent struct {
	rounds int
	slice  time.Duration
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("compare", flag.ContinueOnError)
	flags.SetOutput(stderr)
	smallest := flags.Bool("smallest", false, "measure one tiny round, as a test that everything runs")
	python := flags.String("python", "/usr/bin/python3", "`program` that has Debian's python3-django-redis")
	if err := flags.Parse(args); err != nil || flags.NArg() > 0 {
		return 2
	}
	e := extent{rounds: 21, slice: 75 * time.Millisecond}
	if *smallest {
		e = extent{rounds: 1, slice: time.Millisecond}
	}
	table := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "%s, %s/%s, %d CPUs, load %s\n\n", runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.GOMAXPROCS(0), load())
	fmt.Fprintln(table, "case\tsealcache /\tmedian\tmin..max\tbudget\tfigures\tstored bytes")
	status := 0
	for _, measure := range []func(c *comparison){
		func(c *comparison) { compareSealing(ctx, c) },
		func(c *comparison) { compareStores(ctx, c) },
		func(c *comparison) { comparePredecessor(ctx, c, *python) },
	} {
		if err := steps.Run(func(s *steps.Steps) { measure(&comparison{s, e, table}) }); err != nil {
			fmt.Fprintf(stderr, "compare: %v\n", err)
			status = 1
		}
	}
	if err := table.Flush(); err != nil {
		return 1
	}
	return status
}

// load returns the load average of the last minute, where the system reports it.
func load() string {
	var one string
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	_, _ = fmt.Sscan(string(b), &one)
	return one
}
