package redisstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

// Advice returns a text for each setting of the servers that breaks a promise of the store. One is a
// maxmemory-policy that evicts the sets of tags. The other is a node of a Cluster whose other nodes the client
// does not know. Check of middleware.Store logs the texts once. If the Redis user may not call INFO, Advice returns no
// texts.
//
// Redis evicts the set of a tag like any other key. Invalidate then misses the remaining entries of that tag. Two values
// of maxmemory-policy are safe. noeviction evicts nothing. volatile-ttl evicts the key with the shortest TTL first, and
// the set of a tag expires no sooner than its entries.
func (s *Store) Advice(ctx context.Context) ([]string, error) {
	var mu sync.Mutex
	var advice []string
	add := func(text string) {
		mu.Lock()
		defer mu.Unlock()
		if !slices.Contains(advice, text) {
			advice = append(advice, text)
		}
	}
	err := s.eachMaster(ctx, func(ctx context.Context, node redis.Cmdable) error {
		is, err := s.inspect(ctx, node)
		switch {
		case errors.Is(err, errClusterNode):
			add(err.Error())
			return nil
		case err != nil:
			return err
		}
		if evictsTagSets(is) {
			add(fmt.Sprintf("maxmemory-policy %s can evict the sets of tags, so Invalidate misses entries (set noeviction or volatile-ttl)", is.evicts))
		}
		return nil
	})
	return advice, failed(ctx, "advice", err)
}

// evictsTagSets reports whether a server may evict the set of a tag before its entries. For an unknown policy it reports
// true.
func evictsTagSets(is server) bool {
	if is.maxmemory == "" || is.maxmemory == "0" {
		return false
	}
	return is.evicts != "noeviction" && is.evicts != "volatile-ttl"
}

// KeepsTags reports whether maxmemory-policy of each master keeps the set of a tag as long as its entries. An error
// means that a server does not show its settings, for instance because the Redis user may not call INFO.
func (s *Store) KeepsTags(ctx context.Context) (bool, error) {
	var evicts, silent atomic.Bool
	err := s.eachMaster(ctx, func(ctx context.Context, node redis.Cmdable) error {
		is, err := s.inspect(ctx, node)
		if err != nil {
			return err
		}
		if evictsTagSets(is) {
			evicts.Store(true)
		}
		if is.maxmemory == "" {
			silent.Store(true)
		}
		return nil
	})
	switch {
	case err != nil:
		return false, failed(ctx, "KeepsTags", err)
	case evicts.Load():
		return false, nil
	case silent.Load():
		return false, errors.New("redisstore: KeepsTags: INFO does not show maxmemory (allow INFO for the user and in the proxy)")
	default:
		return true, nil
	}
}
