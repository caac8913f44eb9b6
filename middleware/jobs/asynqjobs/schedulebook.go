package asynqjobs

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/sealcache/sealcache/middleware/jobs"
)

const (
	// openSchedules is how many schedules are opened at a time.
	openSchedules = 8
	// openTimeout bounds one of them.
	openTimeout = 10 * time.Second
	// refusedAgain is the least age at which what was refused for good is opened
	// again: a key that was disabled may be enabled.
	refusedAgain = 10 * time.Minute
	// fewRefused are opened again whenever somebody asks.
	fewRefused = 32
)

// A book is what a Scheduler knows of the schedules that are stored. What did not
// change is not opened each time it is read, be it a schedule or what somebody
// planted beside them, which costs the time of opening it once.
type book struct {
	mu    sync.Mutex
	pages map[string]*page // by field
	// complete is the version of the schedules at which all names were known as far
	// as they could be, or empty.
	complete string
	// changes counts the changes of what opens.
	changes int
}

// A page is one stored schedule, or what stands where one should.
type page struct {
	sum   [sha256.Size]byte // of what is stored
	entry entry             // if it opens, or did when the key service last answered
	err   error             // why it does not
	tried time.Time         // of the server; zero if never
}

func newBook() *book { return &book{pages: map[string]*page{}} }

// take brings the book up to what is stored, and returns what is to be opened, in
// that order: what opened and is to be proved again, what is new in no order, and
// what did not open when it was tried. At once says that somebody asked: what nobody
// refused for good does not wait then.
func (b *book) take(stored map[string]string, now time.Time, atOnce bool) []entry {
	type task struct {
		entry
		class int
		tried time.Time
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for field, p := range b.pages {
		if _, ok := stored[field]; !ok {
			b.drop(field, p)
		}
	}
	var todo, refused []task
	for field, raw := range stored {
		p, sum := b.pages[field], sha256.Sum256([]byte(raw))
		if p == nil || p.sum != sum {
			if p != nil {
				b.drop(field, p)
			}
			p = &page{sum: sum}
			b.pages[field] = p
		}
		age := now.Sub(p.tried)
		if age < 0 { // the server's clock was set back
			age = refusedAgain
		}
		t := task{entry: entry{field: field, raw: raw}, tried: p.tried}
		switch {
		case p.tried.IsZero():
			t.class = 1
		case p.entry.def != nil:
			if age < reloadSchedules {
				continue
			}
		case jobs.Permanent(p.err):
			if t.class = 3; age < refusedAgain {
				refused = append(refused, t)
				continue
			}
		default:
			if t.class = 2; age < reloadSchedules && !atOnce {
				continue
			}
		}
		todo = append(todo, t)
	}
	if atOnce && len(refused) <= fewRefused {
		todo = append(todo, refused...)
	}
	slices.SortStableFunc(todo, func(x, y task) int { return cmp.Or(cmp.Compare(x.class, y.class), x.tried.Compare(y.tried)) })
	entries := make([]entry, len(todo))
	for i := range todo {
		entries[i] = todo[i].entry
	}
	return entries
}

func (b *book) drop(field string, p *page) {
	delete(b.pages, field)
	if p.entry.def != nil {
		b.changes++
	}
}

// note notes how opening en went, and tells whether that is news. What opened before
// stays if only nobody can say now: an outage of the key service must not end what
// runs already.
func (b *book) note(en entry, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.pages[en.field]
	if p == nil || p.sum != sha256.Sum256([]byte(en.raw)) {
		return false // replaced meanwhile
	}
	p.tried = now
	switch had := p.entry.def != nil; {
	case en.def != nil && had:
		return false
	case en.def != nil:
		p.entry, p.err = en, nil
	case had && !jobs.Permanent(en.err):
		return false
	default:
		p.entry, p.err = entry{}, en.err
		if !had {
			return false
		}
	}
	b.changes++
	return true
}

// replace notes that entries were replaced by en, or by nothing if it has no field,
// and with that the version before by the version after.
func (b *book) replace(entries []entry, en entry, before, after string, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, old := range entries {
		delete(b.pages, old.field)
	}
	if en.field != "" {
		b.pages[en.field] = &page{sum: sha256.Sum256([]byte(en.raw)), entry: en, tried: now}
	}
	b.changes++
	if b.complete == before && before != "" {
		b.complete = after
	}
}

// entries returns what opens, if that is not what it was at changes.
func (b *book) entries(changes int) ([]entry, int, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if changes == b.changes {
		return nil, changes, false
	}
	var entries []entry
	for _, p := range b.pages {
		if p.entry.def != nil {
			entries = append(entries, p.entry)
		}
	}
	return entries, b.changes, true
}

// named returns what opens under a name, in the order of fields.
func (b *book) named(name string) []entry {
	b.mu.Lock()
	defer b.mu.Unlock()
	var entries []entry
	for _, p := range b.pages {
		if p.entry.def != nil && p.entry.def.Name == name {
			entries = append(entries, p.entry)
		}
	}
	slices.SortFunc(entries, func(x, y entry) int { return cmp.Compare(x.field, y.field) })
	return entries
}

// errNotYet is of what there was no time to open.
var errNotYet = errors.New("asynqjobs: a schedule has not been opened yet: there are too many, or they open too slowly")

// unread returns why pages do not open: one error of each text, maxErrors at most;
// only those that nobody refused for good, if passing.
func (b *book) unread(passing bool) error {
	const maxErrors = 16
	b.mu.Lock()
	defer b.mu.Unlock()
	byText := map[string]error{}
	for _, p := range b.pages {
		err := p.err
		switch {
		case p.entry.def != nil:
			continue
		case p.tried.IsZero():
			err = errNotYet
		case passing && (jobs.Permanent(err) || errors.Is(err, jobs.ErrUnknownKey)):
			continue
		}
		if byText[err.Error()] = err; len(byText) == maxErrors {
			break
		}
	}
	errs := make([]error, 0, len(byText))
	for _, err := range byText {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// completed notes that all was read at version, or tells whether it was.
func (b *book) completed(version string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.complete = version
}

func (b *book) isComplete(version string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return version != "" && b.complete == version
}

// An opener opens schedules for a book, several at a time.
type opener struct {
	store *scheduleStore
	book  *book
	// failed is told why one does not open.
	failed func(context.Context, error)
	// news has something in it if more, or less, opens than did; at most every so
	// often while there is work.
	news chan struct{}

	workers  sync.WaitGroup
	mu       sync.Mutex
	todo     []entry
	now      time.Time // of the server
	working  int
	reported time.Time
}

// newsSpacing is the least time between two of an opener's news while it works.
const newsSpacing = 100 * time.Millisecond

func newOpener(store *scheduleStore, b *book, failed func(context.Context, error)) *opener {
	return &opener{store: store, book: b, failed: failed, news: make(chan struct{}, 1)}
}

// open opens todo in its order, instead of what was still to be opened, until ctx
// ends. It does not wait for that: workers.Wait does.
func (o *opener) open(ctx context.Context, todo []entry, now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.todo, o.now = todo, now
	for range min(openSchedules-o.working, len(todo)) {
		o.working++
		o.workers.Go(func() { o.work(ctx) })
	}
}

func (o *opener) work(ctx context.Context) {
	for fresh := false; ; {
		en, now, ok := o.next(ctx, fresh)
		if !ok {
			return
		}
		en = o.openOne(ctx, en)
		if en.err != nil && ctx.Err() != nil {
			continue
		}
		if en.err != nil {
			o.failed(ctx, en.err)
		}
		fresh = o.book.note(en, now)
	}
}

func (o *opener) openOne(ctx context.Context, en entry) entry {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	return o.store.open(ctx, en.field, en.raw)
}

// next returns what to open next. The last worker to end reports it.
func (o *opener) next(ctx context.Context, fresh bool) (en entry, now time.Time, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	ok = len(o.todo) > 0 && ctx.Err() == nil
	if ok {
		en, o.todo = o.todo[0], o.todo[1:]
	} else {
		o.working--
	}
	if !ok && o.working == 0 || fresh && time.Since(o.reported) >= newsSpacing {
		o.reported = time.Now()
		select {
		case o.news <- struct{}{}:
		default:
		}
	}
	return en, o.now, ok
}
