package storetest_test

import (
	"bytes"
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/eko/gocache/lib/v4/store"

	"github.com/sealcache/sealcache/stores/memorystore"
)

// atomicDefects are the defects of stores that are AtomicStore, TagExtender, BatchStore, Counter or TagKeeper.
func atomicDefects() map[string]defect {
	return map[string]defect{
		"deletes what has changed": defective("compare_and_delete", func(s *memorystore.Store) store.StoreInterface {
			return atomics{Store: s, delete: func(ctx context.Context, key string, _ []byte, _ int) (bool, error) { return true, s.Delete(ctx, key) }}
		}),
		"deletes in two steps": defective("delete_once", func(s *memorystore.Store) store.StoreInterface {
			var calls atomic.Int32
			met := make(chan struct{})
			return atomics{Store: s, delete: func(ctx context.Context, key string, old []byte, _ int) (bool, error) {
				got, err := s.GetBytes(ctx, key)
				if err != nil || !bytes.Equal(got, old) {
					return false, nil //nolint:nilerr // absent
				}
				// Nothing is deleted before two calls have read the value, so that the case fails in any order of the goroutines.
				if calls.Add(1) == 2 {
					close(met)
				}
				select {
				case <-met:
				case <-time.After(time.Minute): // the only call of another case
				}
				return true, s.Delete(ctx, key)
			}}
		}),
		"expires what has changed": defective("compare_and_expire", func(s *memorystore.Store) store.StoreInterface {
			return atomics{Store: s, expire: func(ctx context.Context, key string, _ []byte, _ int, ttl time.Duration) (bool, error) {
				now, err := s.GetBytes(ctx, key)
				if err != nil {
					return false, nil //nolint:nilerr // absent
				}
				return s.CompareAndExpire(ctx, key, now, 0, ttl)
			}}
		}),
		"loses tags when it expires": defective("compare_and_expire", func(s *memorystore.Store) store.StoreInterface {
			return atomics{Store: s, expire: func(ctx context.Context, key string, old []byte, tail int, ttl time.Duration) (bool, error) {
				done, err := s.CompareAndExpire(ctx, key, old, tail, ttl)
				if !done || err != nil {
					return done, err
				}
				now, err := s.GetBytes(ctx, key)
				return true, errors.Join(err, s.Delete(ctx, key), s.SetBytes(ctx, key, now, store.WithExpiration(ttl)))
			}}
		}),
		"sets over what has changed": defective("compare_and_set", func(s *memorystore.Store) store.StoreInterface {
			return atomics{Store: s, set: func(ctx context.Context, key string, _, next []byte, options ...store.Option) (bool, error) {
				now, err := s.GetBytes(ctx, key)
				if err != nil {
					return false, nil //nolint:nilerr // absent
				}
				return s.CompareAndSet(ctx, key, now, 0, next, options...)
			}}
		}),
		"sets without the options": defective("compare_and_set", func(s *memorystore.Store) store.StoreInterface {
			return atomics{Store: s, set: func(ctx context.Context, key string, old, next []byte, _ ...store.Option) (bool, error) {
				return s.CompareAndSet(ctx, key, old, 0, next)
			}}
		}),
		"swaps without a limit": defective("read_to_swap", func(s *memorystore.Store) store.StoreInterface {
			return atomics{Store: s, read: func(ctx context.Context, key string, _ int) ([]byte, time.Duration, error) {
				return s.GetBytesWithTTL(ctx, key)
			}}
		}),
		"reads no TTL to swap": defective("read_to_swap", func(s *memorystore.Store) store.StoreInterface {
			return atomics{Store: s, read: func(ctx context.Context, key string, limit int) ([]byte, time.Duration, error) {
				b, _, err := s.GetBytesToSwap(ctx, key, limit)
				return b, 0, err
			}}
		}),
		"extends no tags": defective("extend_tags", func(s *memorystore.Store) store.StoreInterface {
			return extending{s, func(context.Context, string) error { return nil }}
		}),
		"extends and overwrites": defective("extend_tags", func(s *memorystore.Store) store.StoreInterface {
			return extending{s, func(ctx context.Context, key string) error {
				return s.SetBytes(ctx, key, nil, store.WithTags([]string{"a", "b"}))
			}}
		}),
		"counts below zero": defective("counts", func(s *memorystore.Store) store.StoreInterface {
			return counting{s, func() map[string]int64 { return map[string]int64{"waiting": -1} }}
		}),
		"shares its counts": defective("counts", func(s *memorystore.Store) store.StoreInterface {
			shared := map[string]int64{"batches": 1}
			return counting{s, func() map[string]int64 { return shared }}
		}),
		"does not know whether it keeps tags": defective("keeps_tags", func(s *memorystore.Store) store.StoreInterface {
			n := 0
			return keeping{Store: s, keeps: func() (bool, error) { n++; return n%2 == 0, nil }}
		}),
		"says that it keeps tags": defective("keeps_tags", func(s *memorystore.Store) store.StoreInterface {
			return keeping{Store: s, keeps: func() (bool, error) { return true, nil }, forgets: true}
		}),
	}
}

// batchDefects are the defects of a BatchStore.
func batchDefects() map[string]defect {
	get := func(fails string, change func(values [][]byte, errs []error) ([][]byte, []error)) defect {
		return defective(fails, func(s *memorystore.Store) store.StoreInterface { return batching{Store: s, get: change} })
	}
	errs := func(fails string, change func(errs []error) []error) defect {
		return defective(fails, func(s *memorystore.Store) store.StoreInterface { return batching{Store: s, errs: change} })
	}
	return map[string]defect{
		"returns absent entries as empty": get("batches", func(values [][]byte, errs []error) ([][]byte, []error) {
			for i := range values {
				values[i] = append([]byte{}, values[i]...)
			}
			return values, errs
		}),
		"returns empty entries as absent": get("batches", func(values [][]byte, errs []error) ([][]byte, []error) {
			for i := range values {
				if len(values[i]) == 0 {
					values[i] = nil
				}
			}
			return values, errs
		}),
		"fails the whole batch for one key": get("batches", func(values [][]byte, errs []error) ([][]byte, []error) {
			for i := range errs {
				errs[i] = errors.Join(errs...)
			}
			return values, errs
		}),
		"answers in another order": get("batches", func(values [][]byte, errs []error) ([][]byte, []error) {
			if len(values) > 1 {
				values[0], values[len(values)-1] = values[len(values)-1], values[0]
			}
			return values, errs
		}),
		"answers a thousand keys": get("large_batches", func(values [][]byte, errs []error) ([][]byte, []error) {
			for i := 1000; i < len(values); i++ {
				values[i] = nil
			}
			return values, errs
		}),
		"hides errors of a batch":   errs("failing_batches", func([]error) []error { return nil }),
		"reports one error of many": errs("failing_batches", func(errs []error) []error { return errs[:min(1, len(errs))] }),
		"drops the options of a batch": defective("batches", func(s *memorystore.Store) store.StoreInterface {
			return batching{Store: s, bare: true}
		}),
		"keeps the buffers of a batch": defective("batches", func(s *memorystore.Store) store.StoreInterface {
			return &sharing{Store: s, kept: map[string][]byte{}}
		}),
	}
}

// atomics replaces methods of an AtomicStore. The others are those of the inner store.
type atomics struct {
	*memorystore.Store
	delete func(ctx context.Context, key string, old []byte, tail int) (bool, error)
	expire func(ctx context.Context, key string, old []byte, tail int, ttl time.Duration) (bool, error)
	read   func(ctx context.Context, key string, limit int) ([]byte, time.Duration, error)
	set    func(ctx context.Context, key string, old, next []byte, options ...store.Option) (bool, error)
}

func (a atomics) CompareAndSet(ctx context.Context, key string, old []byte, tail int, next []byte, options ...store.Option) (bool, error) {
	if a.set == nil {
		return a.Store.CompareAndSet(ctx, key, old, tail, next, options...)
	}
	return a.set(ctx, key, old, next, options...)
}

func (a atomics) CompareAndDelete(ctx context.Context, key string, old []byte, tail int) (bool, error) {
	if a.delete == nil {
		return a.Store.CompareAndDelete(ctx, key, old, tail)
	}
	return a.delete(ctx, key, old, tail)
}

func (a atomics) CompareAndExpire(ctx context.Context, key string, old []byte, tail int, ttl time.Duration) (bool, error) {
	if a.expire == nil {
		return a.Store.CompareAndExpire(ctx, key, old, tail, ttl)
	}
	return a.expire(ctx, key, old, tail, ttl)
}

func (a atomics) GetBytesToSwap(ctx context.Context, key string, limit int) ([]byte, time.Duration, error) {
	if a.read == nil {
		return a.Store.GetBytesToSwap(ctx, key, limit)
	}
	return a.read(ctx, key, limit)
}

type extending struct {
	*memorystore.Store
	extend func(ctx context.Context, key string) error
}

func (e extending) ExtendTags(ctx context.Context, key string, _ []string, _ time.Duration) error {
	return e.extend(ctx, key)
}

type counting struct {
	*memorystore.Store
	counts func() map[string]int64
}

func (c counting) Counts() map[string]int64 { return c.counts() }

// keeping answers KeepsTags. If it forgets, it drops tags.
type keeping struct {
	*memorystore.Store
	keeps   func() (bool, error)
	forgets bool
}

func (k keeping) KeepsTags(context.Context) (bool, error) { return k.keeps() }

func (k keeping) Set(ctx context.Context, key, value any, options ...store.Option) error {
	if k.forgets {
		options = append(options, store.WithTags(nil))
	}
	return k.Store.Set(ctx, key, value, options...)
}

// batching changes the results of a BatchStore, or drops its options.
type batching struct {
	*memorystore.Store
	get  func(values [][]byte, errs []error) ([][]byte, []error)
	errs func([]error) []error
	bare bool
}

func (b batching) GetBytesMany(ctx context.Context, keys []string, limit int) ([][]byte, []error) {
	values, errs := b.Store.GetBytesMany(ctx, keys, limit)
	switch {
	case b.get != nil:
		return b.get(values, errs)
	case b.errs != nil:
		return values, b.errs(errs)
	}
	return values, errs
}

func (b batching) SetBytesMany(ctx context.Context, keys []string, values [][]byte, options ...store.Option) []error {
	if b.bare {
		options = nil
	}
	errs := b.Store.SetBytesMany(ctx, keys, values, options...)
	if b.errs != nil {
		return b.errs(errs)
	}
	return errs
}

// sharing keeps the buffers that SetBytesMany gave it.
type sharing struct {
	*memorystore.Store
	kept map[string][]byte
}

func (s *sharing) SetBytesMany(ctx context.Context, keys []string, values [][]byte, options ...store.Option) []error {
	for i, key := range keys {
		s.kept[key] = values[i]
	}
	return s.Store.SetBytesMany(ctx, keys, values, options...)
}

func (s *sharing) Get(ctx context.Context, key any) (any, error) {
	if b, ok := s.kept[key.(string)]; ok {
		return b, nil
	}
	return s.Store.Get(ctx, key)
}
