package aead

import (
	"context"
	"fmt"
	"hash/maphash"
	"slices"
	"sync"
	"time"
)

const (
	// unwrapParallel is how many unknown data keys are unwrapped at a time.
	unwrapParallel = 16
	// unwrapQueue is how many unknown data keys may wait, at some kilobytes each. With answers in 40 ms, the 16
	// parallel calls unwrap that many within ten seconds, the longest wait.
	unwrapQueue = 4096
	// unwrapRate is how many calls per second may prove no data key, after a burst of unwrapBurst.
	unwrapRate  = 100
	unwrapBurst = 1024

	// rejectEvery is the pace at which waiting data keys are turned away while calls are limited: nine for each
	// that is unwrapped. Reads of planted values then fail soon, instead of waiting for a limited call.
	rejectEvery = time.Second / (10 * unwrapRate)
	// A data key is not turned away before it has waited for so long. The times are for one that several values name,
	// one that looks like proved data keys, and any other.
	waitOfSeveral   = 250 * time.Millisecond
	waitOfKnownForm = 2 * time.Second / unwrapRate
	waitOfOthers    = rejectEvery

	// slowCall is the age at which an unanswered call shows that the key service does not answer.
	slowCall = time.Second
	// countedValues is up to how many values are distinguished that name one unknown data key.
	countedValues = 4
)

// gate limits and orders the unwraps of unknown data keys. Known data keys do not pass it.
//
// A planted data key looks like an honest one until a value has authenticated under it. So every call takes a token of a
// bucket. The token is given back when a value proves the data key. So a process that starts with a full store gets its
// data keys as fast as the KEK answers. Planted values soon empty the bucket.
//
// While the bucket is empty, the function better orders the requests, not their arrival. An attacker would have to plant
// several values under each made-up data key to compete with the data keys of other processes.
type gate struct {
	limited bool // calls cost something
	clock   *clock

	mu            sync.Mutex
	closed        bool
	free          int // calls that may begin
	bucket        bucket
	waiting       []*unwrapRequest
	calls         map[*unwrapRequest]int64 // under way, with their begin
	answered      bool                     // whether the last call that ended got an answer
	admitted      uint64
	nextRejection int64 // when the next data key may be turned away
	timer         *time.Timer
	seen          sightings
	forms         forms
}

// unwrapRequest is the request to unwrap an unknown data key.
type unwrapRequest struct {
	name      uint64   // hash of the wrapped data key
	values    []uint64 // hashes of values that name it, at most countedValues
	again     bool     // it was turned away before
	knownForm bool     // it looks like data keys that were proved
	since     int64    // when it came
	first     int64    // when it was first seen
	admitted  chan struct{}
	err       error // set before admitted is closed: it was turned away
}

// newGate returns the gate to a KEK. A KEK that computes for a few microseconds gets an unlimited gate, because a
// limit would fail reads and protect nothing.
func newGate(c *clock, limited bool) *gate {
	return &gate{
		limited: limited, clock: c, free: unwrapParallel, answered: true, calls: make(map[*unwrapRequest]int64),
		bucket: bucket{rate: unwrapRate, size: unwrapBurst, tokens: unwrapBurst, at: c.now()},
		seen:   newSightings(),
	}
}

// better reports whether request a comes before request b. A data key that several values name comes first. The next
// criteria are, in order: a form like that of proved data keys, an earlier rejection, more values, and the earlier
// first sight.
func better(a, b *unwrapRequest) bool {
	switch several := len(a.values) > 1; {
	case several != (len(b.values) > 1):
		return several
	case a.knownForm != b.knownForm:
		return a.knownForm
	case a.again != b.again:
		return a.again
	case len(a.values) != len(b.values):
		return len(a.values) > len(b.values)
	}
	return a.first < b.first
}

// join adds a request for an unknown data key, or fails if too many wait.
func (g *gate) join(header, value []byte) (*unwrapRequest, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.clock.now()
	t := &unwrapRequest{name: g.seen.hash(header), since: now, first: now, admitted: make(chan struct{}), knownForm: g.limited && g.forms.match(header, now)}
	if g.limited {
		g.seen.recall(t)
		t.saw(g.seen.hash(value[max(len(value)-32, 0):]))
	}
	if g.limited && len(g.waiting) >= unwrapQueue {
		worst := g.pick(func(a, b *unwrapRequest) bool { return better(b, a) }, nil)
		if !better(t, g.waiting[worst]) {
			g.seen.remember(t)
			return nil, g.tooMany(now)
		}
		g.reject(worst, now)
	}
	g.waiting = append(g.waiting, t)
	g.dispatch(now)
	return t, nil
}

// saw notes that another value names the data key. It returns false if the data key was turned away before.
func (g *gate) saw(t *unwrapRequest, value []byte) bool {
	if !g.limited {
		return true
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if t.err != nil {
		return false
	}
	t.saw(g.seen.hash(value[max(len(value)-32, 0):]))
	return true
}

func (t *unwrapRequest) saw(value uint64) {
	if len(t.values) < countedValues && !slices.Contains(t.values, value) {
		t.values = append(t.values, value)
	}
}

// wait returns when the data key is admitted; the caller then makes one call, and calls release and ended. It fails if the
// data key is turned away, or if ctx ends first.
func (g *gate) wait(ctx context.Context, t *unwrapRequest) error {
	select {
	case <-t.admitted:
	case <-ctx.Done():
		_, _ = g.leave(t, true) // t.err says it too
		<-t.admitted
	}
	return t.err
}

// leave removes a data key from the queue if last is set, because no other caller waits for it. had reports whether
// its call to the KEK has begun. reason is the error that says what the caller waited for.
func (g *gate) leave(t *unwrapRequest, last bool) (had bool, reason error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	i := slices.Index(g.waiting, t)
	switch {
	case i < 0 && t.err != nil:
		return false, t.err
	case i < 0:
		now := g.clock.now()
		if began, ok := g.calls[t]; ok && began-t.since <= now-began {
			return true, ErrKeyServiceUnavailable
		}
		return true, g.tooMany(now) // it waited longer in the queue
	case last:
		g.reject(i, g.clock.now())
		return false, t.err
	default:
		return false, g.tooMany(g.clock.now())
	}
}

// tooMany says why a data key was not admitted: too many came, or the key service does not answer. g.mu is held.
func (g *gate) tooMany(now int64) error {
	healthy := g.answered
	for _, began := range g.calls {
		healthy = healthy && now-began < int64(slowCall)
	}
	if healthy {
		return ErrTooManyDataKeys
	}
	return fmt.Errorf("%w: earlier calls to the key service failed or hung, and held this one up (check the service)", ErrKeyServiceUnavailable)
}

// take takes a token for a call that does not wait in the queue.
func (g *gate) take() bool {
	if !g.limited {
		return true
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.waiting) == 0 && g.bucket.take(g.clock.now())
}

// dispatch admits as many data keys as there are free calls and tokens. It also turns away the data keys that are due, and
// sets the timer for its next run. g.mu is held.
func (g *gate) dispatch(now int64) {
	for g.free > 0 && len(g.waiting) > 0 && (!g.limited || g.bucket.take(now)) {
		g.free--
		best := 0
		if g.limited {
			best = g.pick(better, nil)
			if g.admitted++; g.admitted%4 == 0 { // so that old ones are not passed forever
				best = g.pick(func(a, b *unwrapRequest) bool { return a.first < b.first }, nil)
			}
		}
		t := g.waiting[best]
		g.waiting = slices.Delete(g.waiting, best, best+1)
		g.calls[t] = now
		close(t.admitted)
	}
	if g.free == 0 || len(g.waiting) == 0 || g.closed {
		return
	}
	wait := g.bucket.next()
	if g.answered { // in an outage they wait for its end
		wait = min(wait, g.rejectDue(now))
	}
	if g.timer == nil {
		g.timer = time.AfterFunc(wait, g.tick)
	} else {
		g.timer.Reset(wait)
	}
}

// rejectDue turns away one data key if it is time, and returns when to look again. g.mu is held.
func (g *gate) rejectDue(now int64) time.Duration {
	if wait := g.nextRejection - now; wait > 0 {
		return time.Duration(wait)
	}
	waited := func(t *unwrapRequest) bool {
		wait := waitOfOthers
		switch {
		case len(t.values) > 1:
			wait = waitOfSeveral
		case t.knownForm:
			wait = waitOfKnownForm
		}
		return now-t.since >= int64(wait)
	}
	if worst := g.pick(func(a, b *unwrapRequest) bool { return better(b, a) }, waited); worst >= 0 {
		g.reject(worst, now)
		g.nextRejection = now + int64(rejectEvery)
	}
	return rejectEvery
}

func (g *gate) reject(i int, now int64) {
	t := g.waiting[i]
	g.waiting = slices.Delete(g.waiting, i, i+1)
	g.seen.remember(t)
	t.err = g.tooMany(now)
	close(t.admitted)
}

// pick returns the index of the first waiting data key in an order, among those that fit, or -1. Among equals, the
// first is the one that has waited longest.
func (g *gate) pick(before func(a, b *unwrapRequest) bool, fits func(*unwrapRequest) bool) int {
	picked := -1
	for i, t := range g.waiting {
		if (fits == nil || fits(t)) && (picked < 0 || before(t, g.waiting[picked])) {
			picked = i
		}
	}
	return picked
}

func (g *gate) tick() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.dispatch(g.clock.now())
}

// ended is called when a call has ended or was abandoned, and says whether the KEK answered: with a data key or a refusal.
func (g *gate) ended(t *unwrapRequest, answered bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.calls, t)
	g.answered = answered
}

// release is called when a call has returned, which may be long after it was abandoned.
func (g *gate) release() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.free++
	g.dispatch(g.clock.now())
}

// recordForm records the form of a proved data key. With refund it returns the token of the call that unwrapped it.
func (g *gate) recordForm(header []byte, refund bool) {
	if !g.limited {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.forms.add(header, g.clock.now())
	if refund {
		g.bucket.refund()
		g.dispatch(g.clock.now())
	}
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	if g.timer != nil {
		g.timer.Stop()
	}
}

// bucket is a token bucket whose tokens can be given back. The limiter of golang.org/x/time/rate does not return a
// token that could have been used at once.
type bucket struct {
	rate, size float64 // tokens per second, and at most
	tokens     float64
	at         int64
}

func (b *bucket) take(now int64) bool {
	b.tokens = min(b.tokens+b.rate*time.Duration(now-b.at).Seconds(), b.size)
	b.at = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// next returns how long it takes from the last take until there is a token.
func (b *bucket) next() time.Duration {
	return time.Duration(max(1-b.tokens, 0)/b.rate*float64(time.Second)) + 1
}

func (b *bucket) refund() { b.tokens = min(b.tokens+1, b.size) }

// maxSightings bounds how many data keys are remembered that were turned away; the oldest go first.
const maxSightings = 8192

// sightings remembers which values named a data key that was turned away, so that the next value moves it forward.
type sightings struct {
	seed maphash.Seed
	recent[uint64, sighting]
}

type sighting struct {
	values []uint64
	first  int64
}

func newSightings() sightings {
	return sightings{seed: maphash.MakeSeed()}
}

// hash identifies wrapped data keys and values. An attacker does not know the seed. The end of a value is enough,
// since it is the authentication tag.
func (s *sightings) hash(b []byte) uint64 { return maphash.Bytes(s.seed, b) }

func (s *sightings) recall(t *unwrapRequest) {
	if x, ok := s.m[t.name]; ok {
		t.values, t.first, t.again = slices.Clone(x.values), x.first, true
	}
}

func (s *sightings) remember(t *unwrapRequest) {
	first := t.first
	if x, ok := s.m[t.name]; ok {
		first = x.first
	}
	s.set(t.name, sighting{t.values, first}, maxSightings)
}

// forms holds the lengths and first bytes of wrapped data keys that were proved. Wrapped keys of one KEK look alike in both.
type forms struct{ m map[form]*formQuota }

type form struct {
	length int
	start  [prefixSize]byte
}

// formQuota bounds how many data keys per second count as having a known form. An attacker can imitate a form, so
// only proved data keys extend the bound.
type formQuota struct {
	left  int
	since int64
}

const (
	maxForms           = 256
	knownFormPerSecond = 32
)

func formOf(header []byte) form {
	f := form{length: len(header)}
	copy(f.start[:], header[wrappedLenSize:])
	return f
}

func (f *forms) match(header []byte, now int64) bool {
	x, ok := f.m[formOf(header)]
	if !ok {
		return false
	}
	if now-x.since >= int64(time.Second) {
		*x = formQuota{knownFormPerSecond, now}
	}
	x.left--
	return x.left >= 0
}

func (f *forms) add(header []byte, now int64) {
	if f.m == nil {
		f.m = make(map[form]*formQuota)
	}
	name := formOf(header)
	if _, ok := f.m[name]; ok || len(f.m) < maxForms {
		f.m[name] = &formQuota{knownFormPerSecond, now}
	}
}
