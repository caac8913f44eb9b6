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

// Exit statuses.
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
	run         func(ctx context.Context, b *bench)
}

// rows returns the rows in the order in which they are measured and printed.
func rows() []row {
	return []row{
		{"path", "the whole store path against the bare Tink primitive", pathRow},
		{"hidden", "what hidden names add to an operation", hiddenRow},
		{"keyservice", "an envelope with a slow key service against Tink's own envelope", keyServiceRow},
		{"keys", "calls to a key service: at work, for a cold reader, for many tenants", keysRow},
		{"redis", "sealed against plaintext, and against TLS, over a real Redis", redisRow},
		{"combine", "sealed under 8 to 256 callers against gocache's store in plaintext over go-redis", combineRow},
		{"network", "the same over a round trip of 0.5 ms", networkRow},
		{"tls", "the same over TLS", tlsRow},
		{"cluster", "the same over a Cluster of three masters", clusterRow},
		{"fairness", "the latency of one reader next to 64 writers", fairnessRow},
		{"near", "hot sealed reads from the near cache against the same", nearRow},
		{"atomic", "increments of one sealed counter against Redis' INCR", atomicRow},
		{"batch", "batches of sealed entries against the same entries one by one", batchRow},
		{"sessions", "finding and committing a sealed session against scs's goredisstore", sessionsRow},
		{"compression", "compressed and sealed JSON against plaintext, in bytes and processor time", compressionRow},
		{"bytes", "bytes that sealing adds to a value in Redis", bytesRow},
		{"jobs", "jobs on asynq, enqueued and processed, sealed against plaintext", jobsRow},
		{"migrate", "sealing plaintext entries in Redis, next to a live client", migrateRow},
	}
}

// settings are the values of the flags.
type settings struct {
	list    bool
	strict  bool
	heapMiB int
	save    string
	rows    []row
	write   func(io.Writer, report) error
	bench   *bench
}

// errUsage marks a mistake in the flags.
var errUsage = errors.New("usage")

func run(ctx context.Context, all []row, args []string, stdout, stderr io.Writer) int {
	s, err := parse(all, args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case errors.Is(err, errUsage):
		return exitUsage // the flag package has printed the error
	case err != nil:
		fmt.Fprintf(stderr, "benchmarks: %v\n", err)
		return exitUsage
	}
	if s.list {
		for _, r := range all {
			if _, err := fmt.Fprintf(stdout, "%-12s %s\n", r.name, r.about); err != nil {
				return exitFailed
			}
		}
		return exitOK
	}
	ballast := make([]byte, s.heapMiB<<20)
	defer runtime.KeepAlive(ballast)
	status := measure(ctx, s, stderr)
	if len(s.bench.results) == 0 && status == exitOK {
		fmt.Fprintln(stderr, "benchmarks: no case matches -run")
		return exitUsage
	}
	r := report{
		Machine: describeMachine(context.WithoutCancel(ctx)), Scale: s.bench.scale.String(),
		HeapMiB: s.heapMiB, Results: s.bench.results,
	}
	if err := s.write(stdout, r); err != nil {
		fmt.Fprintf(stderr, "benchmarks: write the table: %v\n", err)
		return exitFailed
	}
	if s.save != "" {
		if err := saveReport(s.save, r); err != nil {
			fmt.Fprintf(stderr, "benchmarks: %v\n", err)
			return exitFailed
		}
	}
	if missed := missedBudgets(s.bench.results); missed > 0 {
		fmt.Fprintf(stderr, "benchmarks: budgets missed: %d\n", missed)
		if s.strict {
			return exitFailed
		}
	}
	return status
}

// parse reads and checks the flags.
func parse(all []row, args []string, stderr io.Writer) (*settings, error) {
	flags := flag.NewFlagSet("benchmarks", flag.ContinueOnError)
	flags.SetOutput(stderr)
	s := &settings{bench: &bench{log: stderr}}
	flags.BoolVar(&s.list, "list", false, "list the rows and end")
	flags.BoolVar(&s.strict, "strict", false, "end with status 1 if a budget is missed")
	flags.IntVar(&s.heapMiB, "heap", 0, "live heap in `MiB` that the process holds, as a service does; see README.md")
	flags.IntVar(&s.bench.rounds, "rounds", 0, "number of `rounds`; 0 takes the default of each row")
	var (
		only     = flags.String("rows", "", "comma-separated names of the `rows` to measure; all by default")
		match    = flags.String("run", "", "measure the cases that match this regular `expression`, as row/case: 'redis/1 KiB.*8 clients'")
		quick    = flags.Bool("quick", false, "measure fewer and shorter rounds, with a wider spread")
		smallest = flags.Bool("smallest", false, "measure one tiny round of each case, as a test that it runs")
		output   = flags.String("o", "text", "output `format`: text, markdown or json")
	)
	flags.StringVar(&s.save, "save", "", "also write results.json and results.md into this `folder`, for charts")
	flags.Usage = func() {
		fmt.Fprintf(stderr, "usage: go run ./benchmarks [flags]\n\nMeasures the budgets of this module and prints them as ratios. Flags:\n")
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil, err
		}
		return nil, errUsage
	}
	if flags.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q (only flags are allowed)", flags.Arg(0))
	}
	var err error
	if s.rows, err = choose(all, *only); err != nil {
		return nil, fmt.Errorf("-rows: %w", err)
	}
	if s.bench.match, err = regexp.Compile(*match); err != nil {
		return nil, fmt.Errorf("-run: %w", err)
	}
	var known bool
	if s.write, known = writers()[*output]; !known {
		return nil, fmt.Errorf("-o: unknown format %q (text, markdown or json)", *output)
	}
	if s.bench.rounds < 0 {
		return nil, fmt.Errorf("-rounds is %d, but must not be negative", s.bench.rounds)
	}
	if s.heapMiB < 0 {
		return nil, fmt.Errorf("-heap is %d, but must not be negative", s.heapMiB)
	}
	switch {
	case *smallest:
		s.bench.scale = smallestScale
	case *quick:
		s.bench.scale = quickScale
	}
	return s, nil
}

// measure runs the rows one after the other. If a row fails, the results of the others are still printed.
func measure(ctx context.Context, s *settings, stderr io.Writer) int {
	status := exitOK
	for _, r := range s.rows {
		if err := s.bench.measure(ctx, r); err != nil {
			fmt.Fprintf(stderr, "benchmarks: row %s: %v\n", r.name, err)
			status = exitFailed
			if ctx.Err() != nil {
				break
			}
		}
	}
	return status
}

func missedBudgets(results []Result) int {
	missed := 0
	for _, r := range results {
		if r.Verdict == missedVerdict {
			missed++
		}
	}
	return missed
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
			return nil, fmt.Errorf("unknown row %q (the rows are %s)", name, strings.Join(known, ", "))
		}
	}
	return chosen, nil
}
