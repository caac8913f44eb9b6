package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sealcache/sealcache/middleware/migrate"
)

// planCommand is "plan".
type planCommand struct {
	redis        redisFlag
	scope        scopeFlags
	keysAs       string
	output       outputFlags
	control      string
	rate         float64
	latency      time.Duration
	maxBytes     int
	largest      int
	leaveNumbers bool
}

func (l *planCommand) declare(f *flags) {
	l.redis.declare(f)
	l.scope.declare(f)
	f.choice(&l.keysAs, "keys-as", "how the application will seal, which decides how much the values grow", "envelope", "keyring")
	f.BoolVar(&l.leaveNumbers, "leave-numbers", false, "as in migrate: whole numbers would stay plaintext")
	f.IntVar(&l.maxBytes, "max-value-bytes", 0, "as in migrate: values larger than this number of `BYTES` would be skipped (default 8 MiB)")
	f.IntVar(&l.largest, "largest", 0, "show the names of this `NUMBER` of the largest values")
	f.Float64Var(&l.rate, "rate", 0, "at most this number of `ENTRIES` per second; 0 means no limit")
	f.DurationVar(&l.latency, "max-latency", 0, "pause while the 99th percentile of PING is longer than this `DURATION`, as 5ms; 0 means no limit")
	declareControl(f, &l.control)
	l.output.declare(f)
}

// overheads are the bytes that sealing adds to a value.
func overheads() map[string]int { return map[string]int{"envelope": 0, "keyring": 39} } // 0 is the library's default

func (l *planCommand) run(ctx context.Context, p *program, f *flags) (int, error) {
	config := migrate.PlanConfig{
		LeaveNumbers: l.leaveNumbers, MaxValueBytes: l.maxBytes, Overhead: overheads()[l.keysAs], Largest: l.largest, Rate: l.rate, MaxLatency: l.latency, Logger: p.log,
	}
	if err := f.notNegative("rate", "max-latency", "max-value-bytes", "largest"); err != nil {
		return 0, err
	}
	var err error
	if config.From, err = l.scope.space(); err != nil {
		return 0, err
	}
	if config.Exclude, err = l.scope.list("exclude", l.scope.exclude); err != nil {
		return 0, err
	}
	if err := errors.Join(l.output.check(f), checkControl(l.control)); err != nil {
		return 0, err
	}
	client, err := l.redis.open(ctx)
	if err != nil {
		return 0, err
	}
	defer client.Close()
	h := newHeader(f).at(&l.redis, client, nil)
	config.Control = new(migrate.Control)
	show, done := l.output.follow(p, l.control, config.Control)
	defer done()
	config.Progress = func(s migrate.Progress) {
		state := moveProgress(h.Command, s)
		state.Written = nil
		show(state)
	}
	inventory, err := migrate.Plan(ctx, client, config)
	done()
	if err != nil {
		return 0, err
	}
	inventory.Obstacles = flagged(inventory.Obstacles)
	if err := l.output.write(p, h, inventory, func(w io.Writer) error { return planText(w, inventory) }); err != nil {
		return 0, err
	}
	nothing := inventory.Seen == 0 && !l.scope.all
	if nothing {
		sayNothingFound(p, f, inventory.From)
	}
	if nothing || !inventory.Complete || len(inventory.UnmatchedExcludes)+len(inventory.Obstacles) > 0 {
		return exitLeft, nil
	}
	return exitDone, nil
}

// count returns a number with its noun.
func count(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// sayNothingFound explains the status of a run in whose scope there is no entry.
func sayNothingFound(p *program, f *flags, from string) {
	fmt.Fprintf(p.stderr, "%s: no name in Redis starts with %q (check --namespace, --prefix and --redis)\n", f.cmd.CommandPath(), from)
}

// planText writes an inventory for people.
func planText(w io.Writer, i *migrate.Inventory) error {
	var b strings.Builder
	state := "complete"
	if !i.Complete {
		state = "NOT COMPLETE"
	}
	fmt.Fprintf(&b, "plan: %s; names that start with %q: %d, of which %d excluded and %d of asynq or sealcache\n", state, i.From, i.Seen, i.Excluded, i.Reserved)
	for _, g := range i.Groups {
		fmt.Fprintf(&b, "%s\n", g.Prefix)
		for _, form := range slices.Sorted(maps.Keys(g.Forms)) {
			c := g.Forms[form]
			fmt.Fprintf(&b, "%12d  %-18s %18s, %d without expiry\n", c.Values, form, count(c.Bytes, "byte", "bytes"), c.NoExpiry)
		}
		for _, kind := range slices.Sorted(maps.Keys(g.Types)) {
			fmt.Fprintf(&b, "%12d  of type %s\n", g.Types[kind], kind)
		}
	}
	fmt.Fprintf(&b, "would be sealed: %s, %s; growth %s\n", count(i.WouldSeal.Values, "value", "values"), count(i.WouldSeal.Bytes, "byte", "bytes"), count(i.Growth, "byte", "bytes"))
	if i.TooLarge > 0 {
		fmt.Fprintf(&b, "too large: %s, larger than --max-value-bytes\n", count(i.TooLarge, "value", "values"))
	}
	for _, l := range i.Largest {
		fmt.Fprintf(&b, "%12d  bytes: %q\n", l.Bytes, l.Name)
	}
	for _, e := range i.UnmatchedExcludes {
		fmt.Fprintf(&b, "NOTHING MATCHED the excluded prefix %q: check the prefix\n", e)
	}
	for _, o := range i.Obstacles {
		fmt.Fprintf(&b, "OBSTACLE: %s\n", o)
	}
	if i.CountsAsUse {
		b.WriteString("reading changed the idle times of the entries, because CLIENT NO-TOUCH (Redis 7.2) was not available\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
