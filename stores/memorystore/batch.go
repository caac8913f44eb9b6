package memorystore

import (
	"context"
	"errors"
	"slices"

	"github.com/eko/gocache/lib/v4/store"
)

// GetBytesMany reads many entries. It returns a value and an error for each key, in the order of keys. The value of an
// absent entry is nil, that of an empty one is not. A value that is longer than limit is an error whose method TooLarge
// returns true. errs is nil if no key failed. The caller owns the values.
func (s *Store) GetBytesMany(ctx context.Context, keys []string, limit int) (values [][]byte, errs []error) {
	values = make([][]byte, len(keys))
	errs = forEach(len(keys), func(i int) (err error) {
		values[i], err = s.GetBytesMax(ctx, keys[i], limit)
		if errors.Is(err, store.NotFound{}) {
			return nil
		}
		return err
	})
	return values, errs
}

// SetBytesMany writes copies of many values with the same options. It returns an error for each key, in the order of keys,
// or nil if all were written. An entry is written whether or not another one fails.
func (s *Store) SetBytesMany(ctx context.Context, keys []string, values [][]byte, options ...store.Option) []error {
	if len(keys) != len(values) {
		return slices.Repeat([]error{errors.New("memorystore: SetBytesMany: the numbers of keys and values differ")}, len(keys))
	}
	return forEach(len(keys), func(i int) error { return s.SetBytes(ctx, keys[i], values[i], options...) })
}

// DeleteMany deletes many entries. It returns an error for each key, in the order of keys, or nil if none failed.
func (s *Store) DeleteMany(ctx context.Context, keys []string) []error {
	return forEach(len(keys), func(i int) error { return s.Delete(ctx, keys[i]) })
}

// forEach returns the errors of n calls, or nil if there are none.
func forEach(n int, call func(i int) error) (errs []error) {
	for i := range n {
		if err := call(i); err != nil {
			if errs == nil {
				errs = make([]error, n)
			}
			errs[i] = err
		}
	}
	return errs
}
