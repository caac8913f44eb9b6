package rediswalk

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/bits"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/sealcache/sealcache/internal/rediserr"
	"github.com/sealcache/sealcache/internal/sleep"
)

// Walk scans the names of a database on every master and passes them in batches to workers. The result of a batch has
// the type C, as has their sum, the tally of a master. Results are committed in the order of the scan. All names before the
// cursor of a track are committed, and none after it.
type Walk[C any] struct {
	Servers  *Servers
	Pattern  string
	Throttle *Throttle // nil means no limit
	Log      *slog.Logger
	// Work handles a batch. It may be called again for the same names.
	Work func(ctx context.Context, names []string) (*C, error)
	// Merge adds the result of a batch to the tally of a master, which is the zero C at first. It is called in the order of
	// the scan with Mu held. It may be nil.
	Merge func(tally, result *C)
	// Discard receives the tally of a master that is scanned again, with Mu held. It may be nil.
	Discard func(tally *C)
	Tuning  Tuning

	Mu       sync.Mutex
	Tracks   []*Track[C]
	Since    string // digest of the layout when the tracks began
	Restarts int

	settleFor time.Duration // how long Run waits for slots to settle; 0 is retryFor
	failed    func()        // test hook: a batch has failed, and its worker has not ended yet
}

// Track is the scan of one master. Mu of its Walk guards it.
type Track[C any] struct {
	RunID string
	Position[C]

	node    redis.Cmdable
	pending []*batch[C]   // in the order of the scan; a failed batch stays here
	drained chan struct{} // closed when nothing is pending, if the scan waits for that
}

// Position is the progress of the scan of one master, with its findings.
type Position[C any] struct {
	Cursor uint64 `json:"cursor,string"` // all before it is committed
	Done   bool   `json:"done"`
	Tally  C      `json:"tally"`
}

type batch[C any] struct {
	of       *Track[C]
	names    []string
	next     uint64 // the cursor after it
	finished bool
	result   *C // nil if it has no names
}

const (
	// OthersPerName is how many names that do not match the pattern count as one matching name. Redis spends 1.25 us
	// on a name of SCAN, and about ten times that on an entry that is read and written.
	OthersPerName = 10

	// gatherFor is how long names of several calls of SCAN are gathered to one batch. A call names few where most of a
	// database is outside the scope. Larger batches take fewer round trips and ask for fewer data keys twice.
	gatherFor   = time.Second
	maxRestarts = 5 // of the scan of one server, and of all
)

// errMoved reports that slots of a Cluster have moved during a scan.
var errMoved = errors.New("slots of the Cluster moved or masters restarted during the scan (run the command again)")

// errUnowned reports that some slots stay without exactly one master.
var errUnowned = errors.New("some Cluster slots have no master, or two masters (run \"redis-cli --cluster check\")")

// errHalfMoved reports that the move of a slot has stopped where entries may be on a node that is not scanned.
var errHalfMoved = errors.New("a Cluster slot is half moved (finish the move, or run \"redis-cli --cluster fix\")")

// Run scans to the end. resume holds positions by the run id of a master, in the layout with the digest since; another
// layout makes them useless. Nil starts from the beginning.
//
// If slots of a Cluster have moved during the scan, an entry may have moved behind it. Run then waits until they settle
// and scans everything again. It does the same if a master restarted after its own scan had ended.
func (w *Walk[C]) Run(ctx context.Context, resume map[string]Position[C], since string) error {
	for again := 0; ; {
		masters, before, err := w.Servers.masters(ctx)
		if err != nil && (again > 0 || errors.Is(err, ErrInfoRefused) || w.Servers.cluster != nil && (errors.Is(err, errReplica) || errors.Is(err, errNoMaster))) {
			masters, before, err = w.layout(ctx)
		}
		if err != nil {
			return err
		}
		w.begin(masters, before.digest, resume, since)
		if err = w.pass(ctx, before); err == nil {
			var now []master
			var after layout
			if now, after, err = w.layout(ctx); err == nil && before.same(after) && w.sameRuns(now) {
				return nil
			}
		}
		if err != nil && !errors.Is(err, errMoved) {
			return err
		}
		if again++; again > maxRestarts {
			w.forgetLayout("moved")
			return errMoved
		}
		w.Log.WarnContext(ctx, "sealcache: slots moved or a server restarted, so the scan starts again when all servers are ready")
		if err := w.settle(ctx); err != nil {
			w.forgetLayout("unsettled")
			return err
		}
		resume = nil
		w.Mu.Lock()
		w.Restarts++
		w.Mu.Unlock()
	}
}

// forgetLayout makes the positions useless for a later run: no layout has this digest.
func (w *Walk[C]) forgetLayout(reason string) {
	w.Mu.Lock()
	defer w.Mu.Unlock()
	w.Since = reason
}

// begin makes the tracks of a pass.
func (w *Walk[C]) begin(masters []master, digest string, resume map[string]Position[C], since string) {
	w.Mu.Lock()
	defer w.Mu.Unlock()
	for _, t := range w.Tracks {
		w.discard(&t.Tally)
	}
	w.Tracks, w.Since = nil, digest
	unused := maps.Clone(resume)
	for _, m := range masters {
		t := &Track[C]{node: m.node, RunID: m.runID}
		if p, ok := resume[m.runID]; ok && m.runID != "" && since == digest {
			t.Position = p
			delete(unused, m.runID)
		}
		w.Tracks = append(w.Tracks, t)
	}
	for _, p := range unused {
		w.discard(&p.Tally)
	}
}

func (w *Walk[C]) discard(tally *C) {
	if w.Discard != nil {
		w.Discard(tally)
	}
}

// layout returns the present layout and its masters.
func (w *Walk[C]) layout(ctx context.Context) (masters []master, now layout, err error) {
	err = w.Retry(ctx, "CLUSTER NODES", func(ctx context.Context) error {
		masters, now, err = w.Servers.masters(ctx)
		return err
	})
	return masters, now, err
}

// sameRuns reports whether no master has restarted since it was scanned. One that restarted while others were scanned may
// hold old data again.
func (w *Walk[C]) sameRuns(now []master) bool { return w.Scanned(runIDs(now)) }

// Scanned reports whether the servers that were scanned are those of RunIDs.
func (w *Walk[C]) Scanned(runs []string) bool {
	w.Mu.Lock()
	defer w.Mu.Unlock()
	var scanned []string
	for _, t := range w.Tracks {
		scanned = append(scanned, t.RunID)
	}
	slices.Sort(scanned)
	return slices.Equal(scanned, runs)
}

// Unwatched reports whether a server that was scanned does not show its run id, so that its restart goes unnoticed.
func (w *Walk[C]) Unwatched() bool {
	w.Mu.Lock()
	defer w.Mu.Unlock()
	return slices.ContainsFunc(w.Tracks, func(t *Track[C]) bool { return t.RunID == "" })
}

func runIDs(masters []master) []string {
	ids := make([]string, 0, len(masters))
	for _, m := range masters {
		ids = append(ids, m.runID)
	}
	slices.Sort(ids)
	return ids
}

// RunIDs returns what RunID returns of each master, sorted.
func (s *Servers) RunIDs(ctx context.Context) ([]string, error) {
	masters, _, err := s.masters(ctx)
	return runIDs(masters), err
}

// settle waits until no slots move, or the time is over. If the layout then has not changed once, it returns errUnowned if some
// slots have no single master, and errHalfMoved if a move has stopped. It also returns the error of an ended ctx.
func (w *Walk[C]) settle(ctx context.Context) error {
	const pause = 500 * time.Millisecond
	var last layout
	changed := false
	for end := time.Now().Add(cmp.Or(w.settleFor, retryFor)); time.Now().Before(end) && ctx.Err() == nil; {
		if _, now, err := w.Servers.masters(ctx); err == nil {
			if now.same(last) {
				return nil
			}
			changed = changed || last.digest != "" && now.digest != last.digest
			last = now
		}
		_ = sleep.For(ctx, pause) // the loop ends with ctx
	}
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case changed: // a moving slot lacks a master only for a moment
		return nil
	case last.unowned > 0:
		return errUnowned
	case last.half > 0:
		return errHalfMoved
	}
	return nil
}

// pass scans all masters once. It returns errMoved if one of them is no longer a master.
func (w *Walk[C]) pass(ctx context.Context, at layout) error {
	g, ctx := errgroup.WithContext(ctx)
	batches := make(chan *batch[C])
	var scanning sync.WaitGroup
	for _, t := range w.Tracks {
		if t.Done {
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
	for range w.Tuning.Workers {
		g.Go(func() error {
			for b := range batches {
				err := w.Retry(ctx, "process a batch of entries", func(ctx context.Context) (err error) {
					b.result, err = w.Work(ctx, b.names)
					return err
				})
				if err != nil {
					// The batch stays pending, so the scan cannot end as done. The group cancels ctx, which wakes the scan.
					if w.failed != nil {
						w.failed()
					}
					return withRemedy(err)
				}
				w.finish(b)
			}
			return nil
		})
	}
	return g.Wait()
}

// withRemedy adds the remedy to the error of a command that the server does not offer to the user.
func withRemedy(err error) error {
	if code := rediserr.Code(err); code == "MOVED" || code == "ASK" { // go-redis and Retry have followed it
		return fmt.Errorf("the Cluster redirects a command in a circle: %w (allow ASKING in the ACL of the Redis user)", err)
	}
	if !rediserr.NotOffered(err) || errors.Is(err, ErrNoInfo) {
		return err
	}
	return fmt.Errorf("%w (%s)", err, allowIt)
}

// scan sends the names of one master to the workers.
func (w *Walk[C]) scan(ctx context.Context, t *Track[C], at layout, batches chan<- *batch[C]) error {
	for again := 0; ; {
		if err := w.scanOnce(ctx, t, at, batches); err != nil {
			return err
		}
		now, err := RetryValue(ctx, w.Log, "INFO", func(ctx context.Context) (string, error) {
			now, err := w.Servers.RunID(ctx, t.node)
			return now, w.orMoved(ctx, at, err)
		})
		if err != nil {
			return err
		}
		if w.end(t, now) {
			return nil
		}
		if w.Servers.cluster != nil { // what the run wrote there for names of other masters may be lost
			return errMoved
		}
		if again++; again > maxRestarts {
			return fmt.Errorf("a Redis server restarted or failed over %d times during its scan (try again later)", again)
		}
		w.Log.WarnContext(ctx, "sealcache: a server restarted or failed over during its scan; the scan restarts")
	}
}

// end marks a track as done if its server is still the same run, and resets the track otherwise. Nothing is pending.
func (w *Walk[C]) end(t *Track[C], now string) bool {
	w.Mu.Lock()
	defer w.Mu.Unlock()
	if now == t.RunID {
		t.Done = true
		return true
	}
	w.discard(&t.Tally)
	t.RunID, t.Position = now, Position[C]{}
	w.Restarts++
	return false
}

// scanOnce goes from the cursor of a track to the end and returns when every batch is committed.
func (w *Walk[C]) scanOnce(ctx context.Context, t *Track[C], at layout, batches chan<- *batch[C]) error {
	w.Mu.Lock()
	cursor := t.Cursor
	w.Mu.Unlock()
	var names []string
	var gathering time.Time // when the batch began
	for {
		var more []string
		var next uint64
		err := w.Retry(ctx, "SCAN", func(ctx context.Context) (err error) {
			more, next, err = t.node.Scan(ctx, cursor, w.Pattern, int64(w.Tuning.BatchSize)).Result()
			return w.orMoved(ctx, at, err)
		})
		if err != nil {
			return withRemedy(CallError("SCAN", err))
		}
		if err := w.Throttle.Entries(ctx, max(len(more), (w.Tuning.BatchSize+OthersPerName-1)/OthersPerName)); err != nil {
			return err
		}
		if gathering.IsZero() {
			gathering = time.Now()
		}
		names = append(names, more...)
		if cursor = next; cursor != 0 && len(names) < w.Tuning.BatchSize/2 && time.Since(gathering) < gatherFor {
			continue
		}
		b := &batch[C]{of: t, names: names, next: next}
		names, gathering = nil, time.Time{}
		w.Mu.Lock()
		t.pending = append(t.pending, b)
		w.Mu.Unlock()
		if len(b.names) == 0 { // the usual case with a pattern that matches little
			w.finish(b)
		} else {
			select {
			case batches <- b:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		if cursor == 0 {
			return w.drain(ctx, t)
		}
	}
}

// drain waits until nothing of a track is pending. A batch that failed stays pending, and ends ctx.
func (w *Walk[C]) drain(ctx context.Context, t *Track[C]) error {
	w.Mu.Lock()
	drained := make(chan struct{})
	if len(t.pending) == 0 {
		close(drained)
	} else {
		t.drained = drained
	}
	w.Mu.Unlock()
	select {
	case <-drained:
	case <-ctx.Done():
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// orMoved returns errMoved instead of err if the layout has changed.
func (w *Walk[C]) orMoved(ctx context.Context, at layout, err error) error {
	if err == nil || w.Servers.cluster == nil || ctx.Err() != nil {
		return err
	}
	if _, now, e := w.Servers.masters(ctx); e == nil && now.digest != at.digest {
		return errMoved
	}
	return err
}

// finish commits all batches up to the first that is not finished.
func (w *Walk[C]) finish(b *batch[C]) {
	w.Mu.Lock()
	defer w.Mu.Unlock()
	b.finished, b.names = true, nil
	t := b.of
	for len(t.pending) > 0 && t.pending[0].finished {
		first := t.pending[0]
		t.pending[0] = nil
		t.pending = t.pending[1:]
		if w.Merge != nil && first.result != nil {
			w.Merge(&t.Tally, first.result)
		}
		if first.next != 0 {
			t.Cursor = first.next
		}
	}
	if len(t.pending) == 0 && t.drained != nil {
		close(t.drained)
		t.drained = nil
	}
}

// Fraction returns the part of the hash tables that is behind the cursors. A cursor counts in the reversed bits of the
// number of a bucket (dict.c, dictScan), so that its reverse is a fraction of the whole. Mu must be held.
func (w *Walk[C]) Fraction() float64 {
	if len(w.Tracks) == 0 {
		return 0
	}
	sum := 0.0
	for _, t := range w.Tracks {
		if t.Done {
			sum++
			continue
		}
		sum += float64(bits.Reverse64(t.Cursor)) / (1 << 63) / 2
	}
	return sum / float64(len(w.Tracks))
}

// Retry repeats do after a transient failure, for half a minute.
func (w *Walk[C]) Retry(ctx context.Context, what string, do func(ctx context.Context) error) error {
	return Retry(ctx, w.Log, what, do)
}
