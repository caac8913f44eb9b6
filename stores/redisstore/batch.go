package redisstore

import (
	"context"
	"errors"
	"slices"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/redis/go-redis/v9"

	"github.com/sealcache/sealcache/internal/rediscmd"
)

// A batch is sent in pipelines of at most this many entries and, unless one value alone is larger, this many bytes of
// values. A pipeline is kept in memory whole, and other clients of the server wait behind it.
const (
	batchEntries = 1000
	batchBytes   = 4 << 20
)

// GetBytesMany reads many entries: one pipeline per node for each thousand keys. It returns a value and an error for each
// key, in the order of keys. The value of an absent entry is nil, that of an empty one is not. A value that is longer than
// limit is an error whose method TooLarge returns true. Of such a value, at most one byte more than limit is read. errs is
// nil if no key failed. The caller owns the values.
func (s *Store) GetBytesMany(ctx context.Context, keys []string, limit int) (values [][]byte, errs []error) {
	values = make([][]byte, len(keys))
	at := 0
	fail := func(i int, err error) {
		if errs == nil {
			errs = make([]error, len(keys))
		}
		errs[i] = err
	}
	for part := range slices.Chunk(keys, batchEntries) {
		s.getPart(ctx, part, limit, func(i int, value []byte, err error) {
			if err != nil && !errors.Is(err, store.NotFound{}) {
				fail(at+i, err)
				return
			}
			values[at+i] = value
		})
		at += len(part)
	}
	return values, errs
}

// getPart reads the keys of one pipeline.
func (s *Store) getPart(ctx context.Context, keys []string, limit int, result func(i int, value []byte, err error)) {
	if limit < 0 {
		for i := range keys {
			result(i, nil, failed(ctx, opGet, errBadLimit))
		}
		return
	}
	pipe := s.client.Pipeline()
	parts, exist := make([]*redis.StringCmd, len(keys)), make([]*redis.IntCmd, len(keys))
	for i, key := range keys {
		if limit == unbounded {
			parts[i] = pipe.Get(ctx, key)
			continue
		}
		parts[i], exist[i] = pipe.GetRange(ctx, key, 0, int64(limit)), pipe.Exists(ctx, key)
	}
	_, _ = rediscmd.Exec(ctx, pipe)
	for i, key := range keys {
		if limit == unbounded {
			value, err := s.ownBytes(ctx, opGet, parts[i])
			result(i, value, err)
			continue
		}
		value, err := s.bounded(ctx, key, limit, parts[i], exist[i], parts[i].Err())
		result(i, value, err)
	}
}

// SetBytesMany writes many entries with the same options, as Set writes one. It sends pipelines of at most a thousand
// entries and 4 MiB of values, one per node. It returns an error for each key, in the order of keys, or nil if all were
// written. It is not a transaction: an entry is written whether or not another one fails. If keys repeat, the last value
// stays. The values are not used after the call.
func (s *Store) SetBytesMany(ctx context.Context, keys []string, values [][]byte, opts ...store.Option) []error {
	const op = "set many"
	if len(keys) != len(values) {
		return forAll(len(keys), failed(ctx, op, errors.New("the caller gave different numbers of keys and values")))
	}
	o, err := s.settings(opts)
	if err != nil {
		return forAll(len(keys), failed(ctx, op, err))
	}
	errs := make([]error, len(keys))
	for from := 0; from < len(keys); {
		to, size := from, 0
		for to < len(keys) && to-from < batchEntries && (to == from || size+len(values[to]) <= batchBytes) {
			size += len(values[to])
			to++
		}
		s.setPart(ctx, keys[from:to], values[from:to], o, errs[from:to])
		from = to
	}
	return outcomes(ctx, op, errs)
}

// setPart writes the entries of one pipeline.
func (s *Store) setPart(ctx context.Context, keys []string, values [][]byte, o settings, errs []error) {
	for i, key := range keys {
		if errs[i] = o.checkKey(key); errs[i] == nil {
			errs[i] = s.noTagSet(ctx, key)
		}
	}
	if len(o.tags) > 0 && s.masters == nil {
		s.setPartTagged(ctx, keys, values, o, errs)
		return
	}
	if len(o.tags) > 0 { // as set does: before the entries, and again after them
		s.tagPart(ctx, keys, o, errs, func(i int) bool { return errs[i] == nil })
	}
	cmds := make([]*redis.StatusCmd, len(keys))
	pipe := s.client.Pipeline()
	for i, key := range keys {
		if errs[i] == nil {
			cmds[i] = pipe.Set(ctx, key, values[i], o.ttl)
		}
	}
	if pipe.Len() > 0 {
		_, _ = rediscmd.Exec(ctx, pipe)
	}
	written := func(i int) bool {
		var refusal redis.Error
		return cmds[i] != nil && !errors.As(cmds[i].Err(), &refusal) // the server replied that it did not write it
	}
	for i, cmd := range cmds {
		if cmd != nil {
			errs[i] = cmd.Err()
		}
	}
	if len(o.tags) == 0 {
		return
	}
	if s.tagPart(ctx, keys, o, slices.Clone(errs), written) {
		return
	}
	again, cancel := context.WithTimeout(context.WithoutCancel(ctx), moment)
	defer cancel()
	s.tagPart(again, keys, o, errs, written)
}

// setPartTagged writes entries and their tags on a single node, each entry with its tags in one script.
func (s *Store) setPartTagged(ctx context.Context, keys []string, values [][]byte, o settings, errs []error) {
	var calls []call
	var at []int
	for i, key := range keys {
		if errs[i] != nil {
			continue
		}
		args := []any{values[i], o.ttl.Milliseconds(), o.tagsTTL.Milliseconds(), "0"}
		calls, at = append(calls, call{key, tagSetNames(o.tags), args}), append(at, i)
	}
	_, failures := s.runAll(ctx, s.scripts.setTagged, calls)
	for n, err := range failures {
		errs[at[n]] = err
	}
}

// tagPart adds the wanted entries to the tags, adds a failure to the error of its entry, and reports whether all succeeded.
func (s *Store) tagPart(ctx context.Context, keys []string, o settings, errs []error, wanted func(i int) bool) bool {
	var calls []call
	var at []int
	for i, key := range keys {
		if !wanted(i) {
			continue
		}
		for _, tag := range o.tags {
			calls = append(calls, call{key: tagPrefix + tag, args: []any{key, o.tagsTTL.Milliseconds()}})
			at = append(at, i)
		}
	}
	ok := true
	_, failures := s.runAll(ctx, s.scripts.tag, calls)
	for n, err := range failures {
		if err != nil {
			errs[at[n]], ok = errors.Join(errs[at[n]], err), false
		}
	}
	return ok
}

// DeleteMany deletes many entries as Delete deletes one: one pipeline per node for each thousand keys. It returns an error
// for each key, in the order of keys, or nil if none failed.
func (s *Store) DeleteMany(ctx context.Context, keys []string) []error {
	errs := make([]error, len(keys))
	at := 0
	for part := range slices.Chunk(keys, batchEntries) {
		s.deletePart(ctx, part, errs[at:at+len(part)])
		at += len(part)
	}
	return outcomes(ctx, "delete many", errs)
}

func (s *Store) deletePart(ctx context.Context, keys []string, errs []error) {
	pipe := s.client.Pipeline()
	cmds := make([]*redis.IntCmd, len(keys))
	for i, key := range keys {
		if errs[i] = s.noTagSet(ctx, key); errs[i] == nil {
			cmds[i] = pipe.Del(ctx, key)
		}
	}
	if pipe.Len() > 0 {
		_, _ = rediscmd.Exec(ctx, pipe)
	}
	for i, cmd := range cmds {
		if cmd != nil {
			errs[i] = cmd.Err()
		}
	}
}

// outcomes wraps the errors of a batch, or returns nil if there are none.
func outcomes(ctx context.Context, op string, errs []error) []error {
	failedAny := false
	for i, err := range errs {
		if err != nil {
			errs[i], failedAny = failed(ctx, op, err), true
		}
	}
	if !failedAny {
		return nil
	}
	return errs
}

func forAll(n int, err error) []error { return slices.Repeat([]error{err}, n) }
