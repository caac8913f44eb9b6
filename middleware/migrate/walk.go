package migrate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/sealcache/sealcache/aead"
)

// walk goes through the names of a database with SCAN, on every master, and gives them in batches to workers. What a
// worker finds out about a batch, a C, is committed in the order of the scan: at any time, everything before a master's
// cursor is done and committed, and nothing after it is.
type walk[C any] struct {
	servers *servers
	pattern string
	count   int64
	workers int
	limiter *rate.Limiter // nil for no limit
	log     *slog.Logger
	work    func(ctx context.Context, names []string) (C, error)
	commit  func(C) // called with mu held
	again   func()  // called with mu held when all is scanned again; may be nil

	// For who must not count twice: called besides commit, with the master that a batch is of, and besides again, for a
	// master that alone is scanned again. With mu held; may be nil.
	commitOf func(*track[C], C)
	againOf  func(*track[C])

	resting time.Duration // for how long to wait until slots rest; 0 is patience

	mu       sync.Mutex
	tracks   []*track[C]
	since    string // digest of the layout in which the tracks began
	restarts int
}

// track is where the scan of one master stands.
type track[C any] struct {
	node    redis.Cmdable
	runID   string
	cursor  uint64 // all before it is committed
	done    bool
	pending []*batch[C] // in the order of the scan
	flights sync.WaitGroup
}

type batch[C any] struct {
	of       *track[C]
	names    []string
	next     uint64 // the cursor after it
	finished bool
	result   C
}

const (
	// patience is for how long a batch, or a call of SCAN, is tried again while Redis or the key service fails.
	patience = 30 * time.Second
	// foreignNames is how many names that do not match the pattern count as one that does: Redis spends 1.25 us on a name
	// of SCAN, and about ten times that on an entry that is read and written.
	foreignNames = 10
	// gatherFor is for how long names are gathered to a batch from several calls of SCAN, each of which names few where most
	// of a database is outside the scope: many at a time take fewer round trips, and fewer data keys again and again.
	gatherFor = time.Second
	// maxRestarts is how often the scan of a server may begin again, and that of all of them.
	maxRestarts = 5
)

// errMoved says that slots of a Cluster have moved during a scan.
var errMoved = errors.New("migrate: slots of the Cluster moved during the scan, or masters restarted, again and again: run it again when that is over")

// errAstray says that a part of a Cluster is out of sight, and stays so.
var errAstray = errors.New("migrate: slots of the Cluster belong to no master that answers, or to two, and what lies in them is out of sight: mend the Cluster (redis-cli --cluster check names them) and run it again")

// run walks to the end. resume gives the cursor from which a master's scan goes on, by its run id; it is of the layout
// with the digest since, and of no use after another. Nil begins anew.
//
// When slots of a Cluster have moved during the scan it begins again, once they rest: an entry may have moved behind it.
// So it does when a master has restarted whose scan had ended.
func (w *walk[C]) run(ctx context.Context, resume map[string]position, since string) error {
	for again := 0; ; {
		masters, before, err := w.servers.masters(ctx)
		if err != nil && (again > 0 || w.servers.cluster != nil && errors.Is(err, errReplica)) {
			err = w.patiently(ctx, "CLUSTER NODES", func(ctx context.Context) (err error) {
				masters, before, err = w.servers.masters(ctx)
				return err
			})
		}
		if err != nil {
			return err
		}
		w.begin(masters, before.digest, resume, since)
		if err = w.pass(ctx, before); err == nil {
			var now []master
			var after layout
			if now, after, err = w.layout(ctx); err == nil && before.same(after) && w.ran(now) {
				return nil
			}
		}
		if err != nil && !errors.Is(err, errMoved) {
			return err
		}
		if again++; again > maxRestarts {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.since = "moved" // no layout's: what was scanned is no place to go on from
			return errMoved
		}
		w.log.WarnContext(ctx, "sealcache: slots of the Cluster move, or a master restarted after its scan: the scan begins again when they rest")
		astray := w.rest(ctx)
		resume = nil
		w.mu.Lock()
		if astray {
			defer w.mu.Unlock()
			w.since = "astray"
			return errAstray
		}
		w.restarts++
		if w.again != nil {
			w.again()
		}
		w.mu.Unlock()
	}
}

// begin makes the tracks of a pass.
func (w *walk[C]) begin(masters []master, digest string, resume map[string]position, since string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tracks, w.since = nil, digest
	for _, m := range masters {
		t := &track[C]{node: m.node, runID: m.runID}
		if p, ok := resume[m.runID]; ok && m.runID != "" && since == digest {
			t.cursor, t.done = p.Cursor, p.Done
		}
		w.tracks = append(w.tracks, t)
	}
}

// layout is that of this moment, and its masters.
func (w *walk[C]) layout(ctx context.Context) (masters []master, now layout, err error) {
	err = w.patiently(ctx, "CLUSTER NODES", func(ctx context.Context) error {
		masters, now, err = w.servers.masters(ctx)
		return err
	})
	return masters, now, err
}

// ran tells whether the masters are still in the runs in which they were scanned. One that has restarted after its scan,
// while others were scanned, may hold what it held long before.
func (w *walk[C]) ran(now []master) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	var were, are []string
	for _, t := range w.tracks {
		were = append(were, t.runID)
	}
	for _, m := range now {
		are = append(are, m.runID)
	}
	slices.Sort(were)
	slices.Sort(are)
	return slices.Equal(were, are)
}

// rest waits until no slots move, for a while: what moves for hours is not waited for. It tells whether there are slots
// then that are not those of one master.
func (w *walk[C]) rest(ctx context.Context) (astray bool) {
	const pause = 500 * time.Millisecond
	var last layout
	for end := time.Now().Add(cmp.Or(w.resting, patience)); time.Now().Before(end) && ctx.Err() == nil; {
		_, now, err := w.servers.masters(ctx)
		if err == nil && now.same(last) {
			return false
		}
		// For longer than a slot that moves.
		astray = err == nil && now.astray > 0 && now.digest == last.digest
		last = now
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			timer.Stop()
		case <-timer.C:
		}
	}
	return astray && ctx.Err() == nil
}

// pass goes through all masters once. It returns errMoved if one of them is no longer one.
func (w *walk[C]) pass(ctx context.Context, at layout) error {
	g, ctx := errgroup.WithContext(ctx)
	batches := make(chan *batch[C])
	var scanning sync.WaitGroup
	for _, t := range w.tracks {
		if t.done {
			continue
		}
		scanning.Add(1)
		g.Go(func() error {
			defer scanning.Done()
			return w.scan(ctx, t, at, batches)
		})
	}
	g.Go(func() error {
		scanning.Wait()
		close(batches)
		return nil
	})
	for range w.workers {
		g.Go(func() error {
			for b := range batches {
				err := w.patiently(ctx, "a batch of entries", func(ctx context.Context) (err error) {
					b.result, err = w.work(ctx, b.names)
					return err
				})
				if err == nil {
					w.finish(b)
				}
				b.of.flights.Done()
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// scan sends the names of one master to the workers.
func (w *walk[C]) scan(ctx context.Context, t *track[C], at layout, batches chan<- *batch[C]) error {
	w.mu.Lock()
	cursor := t.cursor
	w.mu.Unlock()
	var names []string
	var gathering time.Time // since when
	for again := 0; ; {
		var more []string
		var next uint64
		err := w.patiently(ctx, "SCAN", func(ctx context.Context) (err error) {
			more, next, err = t.node.Scan(ctx, cursor, w.pattern, w.count).Result()
			return w.orMoved(ctx, at, err)
		})
		if err != nil {
			return fmt.Errorf("migrate: scan: %w", withoutNames(err))
		}
		if w.limiter != nil {
			if err := waitFor(ctx, w.limiter, max(len(more), int(w.count+foreignNames-1)/foreignNames)); err != nil {
				return err
			}
		}
		if gathering.IsZero() {
			gathering = time.Now()
		}
		names = append(names, more...)
		if cursor = next; cursor != 0 && int64(len(names)) < w.count/2 && time.Since(gathering) < gatherFor {
			continue
		}
		b := &batch[C]{of: t, names: names, next: next}
		names, gathering = nil, time.Time{}
		w.mu.Lock()
		t.pending = append(t.pending, b)
		w.mu.Unlock()
		t.flights.Add(1)
		if len(b.names) == 0 { // as mostly, with a pattern that matches little
			w.finish(b)
			t.flights.Done()
		} else {
			select {
			case batches <- b:
			case <-ctx.Done():
				t.flights.Done()
				return context.Cause(ctx)
			}
		}
		if cursor != 0 {
			continue
		}
		t.flights.Wait()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var now string
		err = w.patiently(ctx, "INFO", func(ctx context.Context) (err error) {
			now, err = w.servers.runID(ctx, t.node)
			return w.orMoved(ctx, at, err)
		})
		if err != nil {
			return err
		}
		if now == t.runID {
			w.mu.Lock()
			t.done = true
			w.mu.Unlock()
			return nil
		}
		if again++; again > maxRestarts {
			return fmt.Errorf("migrate: a server restarted or failed over %d times during its scan", again)
		}
		w.log.WarnContext(ctx, "sealcache: a server restarted or failed over during its scan, which begins again")
		w.mu.Lock()
		t.runID, t.cursor = now, 0
		w.restarts++
		if w.againOf != nil {
			w.againOf(t)
		}
		w.mu.Unlock()
	}
}

// orMoved turns the failure of a master into errMoved if another has its slots by now.
func (w *walk[C]) orMoved(ctx context.Context, at layout, err error) error {
	if err == nil || w.servers.cluster == nil || ctx.Err() != nil {
		return err
	}
	if _, now, e := w.servers.masters(ctx); e == nil && now.digest != at.digest {
		return errMoved
	}
	return err
}

// finish commits what is done up to the first batch that is not.
func (w *walk[C]) finish(b *batch[C]) {
	w.mu.Lock()
	defer w.mu.Unlock()
	b.finished, b.names = true, nil
	t := b.of
	for len(t.pending) > 0 && t.pending[0].finished {
		first := t.pending[0]
		t.pending[0] = nil
		t.pending = t.pending[1:]
		if w.commit != nil {
			w.commit(first.result)
		}
		if w.commitOf != nil {
			w.commitOf(t, first.result)
		}
		if first.next != 0 {
			t.cursor = first.next
		}
	}
}

// fraction is how much of the table is behind the cursors. A cursor counts in the reversed bits of the bucket's number
// (dict.c, dictScan), so that reversed it is a fraction of the whole. It is to be called with mu held.
func (w *walk[C]) fraction() float64 {
	if len(w.tracks) == 0 {
		return 0
	}
	sum := 0.0
	for _, t := range w.tracks {
		if t.done {
			sum++
			continue
		}
		sum += float64(bits.Reverse64(t.cursor)) / (1 << 63) / 2
	}
	return sum / float64(len(w.tracks))
}

// patiently repeats what fails for a reason that may pass. Everything that is done here may be done again.
func (w *walk[C]) patiently(ctx context.Context, what string, do func(ctx context.Context) error) error {
	const most = 2 * time.Second
	until := time.Now().Add(patience)
	for wait := 20 * time.Millisecond; ; wait = min(2*wait, most) {
		err := do(ctx)
		if err == nil || ctx.Err() != nil || !passing(err) || time.Now().After(until) {
			return err
		}
		w.log.WarnContext(ctx, "sealcache: trying again", "what", what, "error", withoutNames(err).Error())
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return err
		case <-timer.C:
		}
	}
}

// passing tells whether an error may go away by itself: not what the server refuses for good.
func passing(err error) bool {
	if errors.Is(err, aead.ErrKeyServiceUnavailable) {
		return true
	}
	if errors.Is(err, errMoved) || errors.Is(err, context.Canceled) || errors.Is(err, aead.ErrClosed) || errors.Is(err, aead.ErrKeyExhausted) {
		return false
	}
	var reply redis.Error
	if !errors.As(err, &reply) {
		return true // the network
	}
	for _, code := range []string{"LOADING", "READONLY", "CLUSTERDOWN", "TRYAGAIN", "MASTERDOWN", "NOREPLICAS", "BUSY", "MOVED", "ASK", "OOM", "UNBLOCKED", "MISCONF"} {
		if redis.HasErrorPrefix(err, code) {
			return true
		}
	}
	return false
}

func waitFor(ctx context.Context, l *rate.Limiter, n int) error {
	for n > 0 {
		part := min(n, l.Burst())
		if err := l.WaitN(ctx, part); err != nil {
			return fmt.Errorf("migrate: %w", err)
		}
		n -= part
	}
	return nil
}

// withoutNames cuts the text of an error where it may repeat names or values.
func withoutNames(err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	for _, mark := range []string{", with args beginning with", " reply=", ": parsing ", "permissions to access the '"} {
		if i := strings.Index(text, mark); i >= 0 {
			return &shortened{text: text[:i] + " (the rest is withheld: it may name keys and values)", cause: err}
		}
	}
	return err
}

type shortened struct {
	text  string
	cause error
}

func (e *shortened) Error() string { return e.text }
func (e *shortened) Unwrap() error { return e.cause }
