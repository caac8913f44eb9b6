package middleware

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/eko/gocache/lib/v4/store"
)

// GetMany returns the values under keys, each of the type that it was set with. An
// absent key is left out of the map and is not an error. Keys that could not be read
// are in a *BatchError, and the map has all others. So the caller can distinguish
// missing from unreadable keys. With WithMissOnOpenFailure an unreadable value is
// left out, counted and logged; a key service that does not answer stays an error.
// The caller may change the map and the values.
//
// Repeated keys are read once. Over a BatchStore, such as redisstore, each thousand
// keys take one round trip, in a Cluster one to each node. Over any other store
// GetMany calls Get for each key, one after the other, so it never returns
// ErrUnsupported. Over a BatchStore, accepted plaintext is returned as []byte.
//
// GetMany works on this Store alone, and not through gocache's Chain or Loadable,
// which take single keys. A caller with two levels of caches asks the lower one for
// the keys that the map lacks, and sets them in the upper one. To load many values
// from a database, do the same with the database as the lower level: see the
// example of SetMany.
func (s *Store) GetMany(ctx context.Context, keys []string) (map[string]any, error) {
	ctx, op := s.tel.begin(ctx, "GetMany")
	b := s.newBatch("GetMany")
	values := make(map[string]any, len(keys))
	accept := func(key string, value any, err error) {
		b.count(ctx, err)
		if err == nil {
			values[key] = value
			return
		}
		s.tel.unreadableValue(ctx, "GetMany", err)
		if err = s.missOnFailure(err); !isMiss(err) {
			b.fail(key, err)
		}
	}
	for _, part := range parts(b.names(ctx, keys)) {
		s.getPart(ctx, part, accept)
	}
	err := b.err()
	op.end(err)
	return values, err
}

// batchEntries is how many entries a part of a batch has at most.
const batchEntries = 1000

// batchBytes is how many bytes are sealed before they are sent.
const batchBytes = 4 << 20

// getPart reads some keys, in one round trip for each PRF key under which entries
// may be.
func (s *Store) getPart(ctx context.Context, keys []string, accept func(key string, value any, err error)) {
	if s.can.batch == nil {
		for _, key := range keys {
			o, _, err := s.get(ctx, key, wanted{})
			accept(key, o.value, err)
		}
		return
	}
	last := s.prfKeys() - 1
	if last > 0 {
		last++ // the primary key again: an entry may have been moved in between
	}
	var refusals map[string]error // the first of each key that the read went past
	for i := 0; i <= last && len(keys) > 0; i++ {
		var missing []string
		s.getUnder(ctx, i%s.prfKeys(), keys, func(key string, value any, err error) {
			if i < last && s.triesNextKey(err) {
				missing = append(missing, key)
				if _, again := refusals[key]; !again && !isMiss(err) {
					if refusals == nil {
						refusals = make(map[string]error)
					}
					refusals[key] = err
				}
				return
			}
			if refusal, ok := refusals[key]; ok && isMiss(err) {
				err = refusal
			}
			accept(key, value, err)
		})
		keys = missing
	}
}

// getUnder reads the entries that some keys have under PRF key i.
func (s *Store) getUnder(ctx context.Context, i int, keys []string, accept func(key string, value any, err error)) {
	limit := math.MaxInt
	if s.bounded != nil {
		limit = s.sealer.maxStored()
	}
	addresses := s.addresses(i, keys, func(key string, err error) { accept(key, nil, err) })
	values, errs := s.can.batch.GetBytesMany(ctx, storedNames(addresses), limit)
	for j, a := range addresses {
		switch {
		case errs != nil && errs[j] != nil:
			accept(a.key, nil, s.backingError(errs[j]))
		case values[j] == nil:
			accept(a.key, nil, store.NotFoundWithCause(nil))
		default:
			o, err := s.read(ctx, a, stored{raw: values[j], owned: true})
			accept(a.key, o.value, err)
		}
	}
}

// SetMany seals items and stores each under its key, with the same options. SetMany
// is not a transaction, because stores have none over several nodes. If some keys
// were not written, or may not have been, they are in a *BatchError. All other keys
// are written. To try again, set the keys of the error again.
//
// Expiration, tags and defaults are as with Set. Over a BatchStore, SetMany sends parts
// of at most a thousand items and about 4 MiB. In a Cluster, it sends to all nodes at
// the same time. Over any other store it calls Set for each key.
func (s *Store) SetMany(ctx context.Context, items map[string]any, opts ...store.Option) error {
	ctx, op := s.tel.begin(ctx, "SetMany")
	err := s.setMany(ctx, items, opts)
	op.end(err)
	return err
}

func (s *Store) setMany(ctx context.Context, items map[string]any, options []store.Option) error {
	plan, err := s.planWrite(options)
	if err != nil {
		return err
	}
	b := s.newBatch("SetMany")
	accept := func(key string, err error) {
		b.count(ctx, err)
		s.tel.refusedWrite(ctx, "SetMany", err)
		if err != nil {
			b.fail(key, err)
		}
	}
	keys := b.names(ctx, slices.Collect(maps.Keys(items)))
	if s.can.batch == nil {
		for _, key := range keys {
			accept(key, s.set(ctx, key, items[key], options))
		}
		return b.err()
	}
	a := arena{scratch: newScratch()}
	defer a.scratch.free()
	send := func() {
		errs := s.can.batch.SetBytesMany(ctx, storedNames(a.addresses), a.values(), plan.options...)
		var written []string
		for i, address := range a.addresses {
			var err error
			if errs != nil {
				err = errs[i]
			}
			if err = s.writeError(err); err != nil {
				accept(address.key, err)
			} else {
				written = append(written, address.key)
			}
		}
		for i := s.prfKeys() - 1; i > 0; i-- {
			written = s.deleteUnder(ctx, i, written, accept)
		}
		for _, key := range written {
			accept(key, nil)
		}
		a.reset(errs == nil)
	}
	for _, key := range keys {
		if err := s.addTo(ctx, &a, key, items[key], plan); err != nil {
			accept(key, err)
		}
		if len(a.addresses) == batchEntries || len(a.scratch.out) >= batchBytes {
			send()
		}
	}
	if len(a.addresses) > 0 {
		send()
	}
	return b.err()
}

// arena is one buffer for the sealed values of a batch.
type arena struct {
	scratch   *scratch // its out is the buffer
	addresses []address
	ends      []int // of each value in the buffer
}

// addTo seals a value into the arena.
func (s *Store) addTo(ctx context.Context, a *arena, key string, value any, plan writePlan) error {
	at, err := s.addressUnder(0, key)
	if err == nil {
		err = s.checkWrite(at.stored, plan)
	}
	if err != nil {
		return err
	}
	out := a.scratch.out[:a.used()]
	if s.policy() == WritePlaintext {
		text, err := s.plaintextText(ctx, value)
		if err != nil {
			return err
		}
		out = append(out, text...)
	} else {
		sealed, err := s.seal(ctx, out, a.scratch, at, value, s.endOf(plan.ttl), plan.tags)
		if err != nil {
			return err
		}
		out = sealed
	}
	a.scratch.out = out
	a.addresses, a.ends = append(a.addresses, at), append(a.ends, len(out))
	return nil
}

// used is how much of the buffer holds values.
func (a *arena) used() int {
	if len(a.ends) == 0 {
		return 0
	}
	return a.ends[len(a.ends)-1]
}

func (a *arena) values() [][]byte {
	values := make([][]byte, len(a.ends))
	start := 0
	for i, end := range a.ends {
		values[i] = a.scratch.out[start:end:end]
		start = end
	}
	return values
}

// reset empties the arena. The buffer is used again only if the store is done with
// it.
func (a *arena) reset(done bool) {
	a.addresses, a.ends = a.addresses[:0], a.ends[:0]
	if !done {
		a.scratch.out = nil // another goroutine may still read it
	}
}

// DeleteMany removes the entries under keys. Absent entries are not errors. If
// some keys were not deleted, or may not have been, they are in a *BatchError. All
// other keys are deleted. Round trips are as with GetMany.
func (s *Store) DeleteMany(ctx context.Context, keys []string) error {
	ctx, op := s.tel.begin(ctx, "DeleteMany")
	b := s.newBatch("DeleteMany")
	accept := func(key string, err error) {
		b.count(ctx, err)
		if err != nil {
			b.fail(key, err)
		}
	}
	for _, part := range parts(b.names(ctx, keys)) {
		if s.can.batch == nil {
			for _, key := range part {
				accept(key, s.delete(ctx, key))
			}
			continue
		}
		for i := s.prfKeys() - 1; i >= 0; i-- { // the primary key last, as Delete
			part = s.deleteUnder(ctx, i, part, accept)
		}
		for _, key := range part {
			accept(key, nil)
		}
	}
	err := b.err()
	op.end(err)
	return err
}

// parts splits the keys of a batch.
func parts(keys []string) [][]string { return slices.Collect(slices.Chunk(keys, batchEntries)) }

// deleteUnder deletes the entries that some keys have under PRF key i. It returns the
// keys for which it did not fail.
func (s *Store) deleteUnder(ctx context.Context, i int, keys []string, fail func(key string, err error)) (done []string) {
	if len(keys) == 0 {
		return nil
	}
	addresses := s.addresses(i, keys, fail)
	errs := s.can.batch.DeleteMany(ctx, storedNames(addresses))
	for j, a := range addresses {
		if errs != nil && errs[j] != nil {
			fail(a.key, s.backingError(errs[j]))
		} else {
			done = append(done, a.key)
		}
	}
	return done
}

// A BatchError lists the keys of a batch that failed. errors.Is and errors.As find
// the error of any key. All other keys of the batch succeeded. If the store or the
// key service is down, it has all keys. Any other error of GetMany, SetMany or
// DeleteMany is about the options, and nothing was sent.
//
// The text counts the failures by their reason. It does not contain keys, and no verb
// of package fmt prints them.
type BatchError struct {
	// Errors are the errors by the key that the caller gave. The caller may
	// change the map. It is not encoded as JSON, because key names may be
	// secret.
	Errors map[string]error `json:"-"`

	operation string
	keys      int // of the batch
}

func (e *BatchError) Error() string {
	reasons := e.reasons()
	var text strings.Builder
	fmt.Fprintf(&text, "middleware: %s: %d of %d entries failed", e.operation, len(e.Errors), e.keys)
	separator := ": "
	for _, reason := range slices.Sorted(maps.Keys(reasons)) {
		fmt.Fprintf(&text, "%s%s (%d)", separator, words(reason), reasons[reason])
		separator = ", "
	}
	return text.String()
}

// reasons counts the failures by their outcome.
func (e *BatchError) reasons() map[string]int {
	reasons := map[string]int{}
	for _, err := range e.Errors {
		reasons[outcome(err)]++
	}
	return reasons
}

// words is the label of an outcome in plain words.
func words(outcome string) string {
	if outcome == "too_large" {
		return "value too large"
	}
	return strings.ReplaceAll(outcome, "_", " ")
}

// outcome names the result of the batch for metrics.
func (e *BatchError) outcome() string {
	for reason, n := range e.reasons() {
		if n == e.keys {
			return reason
		}
	}
	return "partial"
}

// Unwrap returns the errors of the keys, in the order of the keys' names.
func (e *BatchError) Unwrap() []error {
	errs := make([]error, 0, len(e.Errors))
	for _, key := range slices.Sorted(maps.Keys(e.Errors)) {
		errs = append(errs, e.Errors[key])
	}
	return errs
}

// Format writes Error for every verb of package fmt, also for a BatchError value.
func (e BatchError) Format(f fmt.State, _ rune) { writeString(f, e.Error()) }

// GoString returns Error.
func (e BatchError) GoString() string { return e.Error() }

// LogValue returns Error.
func (e BatchError) LogValue() slog.Value { return slog.StringValue(e.Error()) }

// batch collects the failures of a batch.
type batch struct {
	s         *Store
	operation string
	keys      int
	errs      map[string]error
}

func (s *Store) newBatch(operation string) *batch { return &batch{s: s, operation: operation} }

// names returns the valid keys, each once. It counts the others as failed.
func (b *batch) names(ctx context.Context, keys []string) []string {
	names := make([]string, 0, len(keys))
	seen := make(map[string]struct{}, len(keys))
	for _, key := range keys {
		if _, again := seen[key]; again {
			continue
		}
		seen[key] = struct{}{}
		if err := checkName(key); err != nil {
			b.count(ctx, err)
			b.fail(key, err)
			continue
		}
		names = append(names, key)
	}
	b.keys = len(seen)
	return names
}

// count counts a key by its outcome.
func (b *batch) count(ctx context.Context, err error) {
	b.s.tel.batchKeys.Add(ctx, 1, b.operation, outcome(err))
}

func (b *batch) fail(key string, err error) {
	if b.errs == nil {
		b.errs = make(map[string]error)
	}
	b.errs[key] = err
}

// err returns the error of the batch, or nil.
func (b *batch) err() error {
	if len(b.errs) == 0 {
		return nil
	}
	return &BatchError{Errors: b.errs, operation: b.operation, keys: b.keys}
}
