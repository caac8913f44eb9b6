package redisstore

import (
	"log/slog"

	"github.com/redis/go-redis/v9"
)

// Config holds settings of a Store that gocache's options do not cover. The zero value holds the defaults.
type Config struct {
	// DisableCombining makes every call use a separate connection. By default, if many goroutines call the Store,
	// it sends several calls in one pipeline: together, in one round trip. See docs/stores.md. The URL option combine=off
	// does the same.
	DisableCombining bool

	// Logger receives warnings about the client, and reports of hooks that panicked. Default is slog.Default().
	Logger *slog.Logger
}

func (c *Config) logger() *slog.Logger {
	if c.Logger == nil {
		return slog.Default()
	}
	return c.Logger
}

// heedsDeadlines reports whether the client obeys the deadline of a context.
func heedsDeadlines(client redis.UniversalClient) bool {
	switch c := client.(type) {
	case interface{ Options() *redis.Options }:
		return c.Options().ContextTimeoutEnabled
	case interface{ Options() *redis.ClusterOptions }:
		return c.Options().ContextTimeoutEnabled
	default:
		return true // not known
	}
}

// Stats counts the operations of a Store since it was made. Fields may be added.
type Stats struct {
	// Batches is the number of pipelines in which calls were combined.
	Batches int64

	// Combined is the number of calls that were sent in such a pipeline. Divided by Batches it is the mean size of a batch.
	Combined int64

	// Waiting is the number of calls that wait for their batch now.
	Waiting int64

	// NearHits and NearMisses are the numbers of lookups in the near cache.
	NearHits, NearMisses int64

	// NearBytes is the memory that the near cache uses now, by go-redis's estimate.
	NearBytes int64
}

// Stats returns the present counts. They are read one after the other, and may change in between.
func (s *Store) Stats() Stats {
	var now Stats
	if c := s.combiner; c != nil {
		now.Batches, now.Combined, now.Waiting = c.batches.Load(), c.combined.Load(), c.waiting.Load()
	}
	if s.near != nil {
		near := s.near.Stats()
		now.NearHits, now.NearMisses, now.NearBytes = int64(near.Hits), int64(near.Misses), near.MemoryUsageBytes
	}
	return now
}

// Counts returns Stats by name, for package middleware.
func (s *Store) Counts() map[string]int64 {
	now := s.Stats()
	counts := map[string]int64{"batches": now.Batches, "combined": now.Combined, "waiting": now.Waiting}
	if s.near != nil {
		counts["near_hits"], counts["near_misses"], counts["near_bytes"] = now.NearHits, now.NearMisses, now.NearBytes
	}
	return counts
}
