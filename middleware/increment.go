package middleware

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"

	"github.com/eko/gocache/lib/v4/store"
)

// Increment adds delta, which may be negative, to the integer under key, and
// returns the sum. No increment is lost when other goroutines and processes write
// at the same time. If increments of one entry overlap in a process, they are
// combined into one swap, and together take the time of one.
//
// If the entry is absent, Increment creates an int64 of the value delta, with the
// expiry and the tags of opts. An entry that exists keeps its expiry, to the
// millisecond, and its tags; opts then change nothing. If overlapping increments
// create an entry, the opts of one of them apply.
//
// The value may have any integer type of Go, and keeps its type: int8 to int64,
// uint8 to uint64, int, uint, uintptr. A sum that does not fit the type, or an
// int64, is ErrOverflow. Text (also of digits), floats, bools and values of codecs
// are ErrNotANumber. Both errors change nothing. If WithPlaintext accepts
// plaintext, decimal digits of an int64 are a counter, as for INCR of Redis.
// Increment writes the sum sealed, or as text under WritePlaintext.
//
// Increment treats absent and unreadable entries as Update does, and returns the
// same errors. If ctx ends while the call waits for another call, nothing was
// added. If ctx ends later, or the connection fails, delta may have been added or
// not.
func (s *Store) Increment(ctx context.Context, key any, delta int64, opts ...store.Option) (int64, error) {
	ctx, op := s.tel.begin(ctx, "Increment")
	n, err := s.increment(ctx, key, delta, opts)
	op.end(err)
	s.tel.refusedWrite(ctx, "Increment", err)
	return n, err
}

func (s *Store) increment(ctx context.Context, key any, delta int64, options []store.Option) (int64, error) {
	name, err := keyName(key)
	if err != nil {
		return 0, err
	}
	// Invalid options of this call must not make the increments of other callers fail.
	if _, err := s.planWrite(options); err != nil {
		return 0, err
	}
	return s.counters.add(s, name, &increment{ctx: ctx, delta: delta, options: options, done: make(chan struct{})})
}

// increment is one call of Increment.
type increment struct {
	ctx     context.Context //nolint:containedctx // lives as long as the call
	delta   int64
	options []store.Option

	done chan struct{} // closed when sum and err are set
	sum  int64
	err  error

	swap *sharedSwap // that serves the call; nil: it waits
}

// sharedSwap serves increments of several callers. Its context ends when all of
// them have left.
type sharedSwap struct {
	ctx        context.Context //nolint:containedctx // lives as long as the swap
	cancel     context.CancelFunc
	increments []*increment
	callers    int
}

// counters combines the increments of a process. The first call for a name does its
// work itself. Calls that come during that work wait, and then share one swap.
type counters struct {
	mu      sync.Mutex
	waiting map[string][]*increment // a name is in the map while a call works for it
}

// add returns when i is done, or when its context has ended.
func (c *counters) add(s *Store, name string, i *increment) (int64, error) {
	c.mu.Lock()
	if others, working := c.waiting[name]; working {
		c.waiting[name] = append(others, i)
		c.mu.Unlock()
		return c.wait(name, i)
	}
	if c.waiting == nil {
		c.waiting = make(map[string][]*increment)
	}
	c.waiting[name] = nil
	c.mu.Unlock()
	defer func() {
		if next := c.next(name); next != nil {
			go c.work(s, name, next)
		}
	}()
	s.addTogether(i.ctx, name, []*increment{i})
	return i.sum, i.err
}

// wait waits for an increment that another call serves.
func (c *counters) wait(name string, i *increment) (int64, error) {
	select {
	case <-i.done:
		return i.sum, i.err
	case <-i.ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if i.swap == nil {
		c.waiting[name] = slices.DeleteFunc(c.waiting[name], func(other *increment) bool { return other == i })
		return 0, i.ctx.Err()
	}
	select {
	case <-i.done: // at the same time: the sum is known
		return i.sum, i.err
	default:
	}
	if i.swap.callers--; i.swap.callers == 0 {
		i.swap.cancel()
	}
	return 0, i.ctx.Err()
}

// next returns a swap for the increments that wait for name. If none wait, it
// returns nil, and the name is free.
func (c *counters) next(name string) *sharedSwap {
	c.mu.Lock()
	defer c.mu.Unlock()
	waiting := c.waiting[name]
	if len(waiting) == 0 {
		delete(c.waiting, name)
		return nil
	}
	c.waiting[name] = nil
	next := &sharedSwap{increments: waiting, callers: len(waiting)}
	next.ctx, next.cancel = context.WithCancel(context.WithoutCancel(waiting[0].ctx))
	for _, i := range waiting {
		i.swap = next
	}
	return next
}

// work serves increments until none wait.
func (c *counters) work(s *Store, name string, next *sharedSwap) {
	defer func() {
		if next != nil { // runtime.Goexit ends this goroutine
			if next = c.next(name); next != nil {
				go c.work(s, name, next)
			}
		}
	}()
	for ; next != nil; next = c.next(name) {
		s.addShared(name, next)
	}
}

var errPanicked = errors.New("middleware: increment: the store or a hook of its client panicked (the counter may have changed)")

// addShared is addTogether in a goroutine without a caller. A panic there would end the process, so it becomes an error. So does
// runtime.Goexit, which would leave the callers waiting.
func (s *Store) addShared(name string, swap *sharedSwap) {
	defer swap.cancel()
	completed := false
	defer func() {
		if p := recover(); !completed {
			s.tel.log.Error("sealcache: increment: the store or a hook of its client panicked", "type", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
			for _, i := range swap.increments {
				i.sum, i.err = 0, errPanicked
				close(i.done)
			}
		}
	}()
	s.addTogether(swap.ctx, name, swap.increments)
	completed = true
}

// errNothingAdded ends a swap in which no delta could be added. Each caller gets the error of its increment.
var errNothingAdded = errors.New("middleware: increment: the sum would overflow the counter, so the counter is unchanged")

// addTogether adds the deltas of increments in one swap, in their order, as if each
// had a separate swap.
func (s *Store) addTogether(ctx context.Context, name string, increments []*increment) {
	err := s.modify(ctx, name, increments[0].options, func(e entry) (any, error) {
		c, err := s.counterOf(e)
		if err != nil {
			return nil, err
		}
		added := false
		for _, i := range increments {
			next, err := c.plus(i.delta)
			i.sum, i.err = next.n, err
			if err == nil {
				c, added = next, true
			}
		}
		if !added {
			return nil, errNothingAdded
		}
		return c.value(), nil
	})
	for _, i := range increments {
		if err != nil && !errors.Is(err, errNothingAdded) {
			i.sum, i.err = 0, err
		}
		close(i.done)
	}
}

// counter is an integer with the Go type that it was stored with.
type counter struct {
	n  int64
	as func(n int64) (value any, ok bool) // ok: the type holds n
}

// counterOf returns the counter that an entry holds. An absent one is 0.
func (s *Store) counterOf(e entry) (counter, error) {
	if e.found && !e.sealed {
		return counterOfText(e.stored)
	}
	switch v := e.value.(type) {
	case nil:
		return integer(int64(0))
	case int:
		return integer(v)
	case int8:
		return integer(v)
	case int16:
		return integer(v)
	case int32:
		return integer(v)
	case int64:
		return integer(v)
	case uint:
		return integer(v)
	case uint8:
		return integer(v)
	case uint16:
		return integer(v)
	case uint32:
		return integer(v)
	case uint64:
		return integer(v)
	case uintptr:
		return integer(v)
	default:
		return counter{}, fmt.Errorf("%w: the value has the type %T", ErrNotANumber, v)
	}
}

func integer[T int | int8 | int16 | int32 | int64 | uint | uint8 | uint16 | uint32 | uint64 | uintptr](v T) (counter, error) {
	n := int64(v)
	if (n < 0) != (v < 0) {
		return counter{}, fmt.Errorf("%w: the stored value is larger than an int64", ErrOverflow)
	}
	return counter{n, func(n int64) (any, bool) {
		t := T(n)
		return t, int64(t) == n && (t < 0) == (n < 0)
	}}, nil
}

// counterOfText returns the counter of plaintext that Redis' INCR takes.
func counterOfText(text []byte) (counter, error) {
	n, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil || strconv.FormatInt(n, 10) != string(text) {
		return counter{}, fmt.Errorf("%w: the stored plaintext is not an int64 in decimal digits", ErrNotANumber)
	}
	return integer(n)
}

// plus returns the sum, or ErrOverflow.
func (c counter) plus(delta int64) (counter, error) {
	sum := c.n + delta
	if (sum > c.n) != (delta > 0) && delta != 0 {
		return counter{}, fmt.Errorf("%w: the result does not fit into an int64, so nothing was added", ErrOverflow)
	}
	value, ok := c.as(sum)
	if !ok {
		return counter{}, fmt.Errorf("%w: the result does not fit into the type %T of the stored value, so nothing was added", ErrOverflow, value)
	}
	c.n = sum
	return c, nil
}

func (c counter) value() any {
	value, _ := c.as(c.n)
	return value
}
