package audit

import (
	"context"
	"errors"
	"math"
	"slices"

	"github.com/redis/go-redis/v9"

	"github.com/sealcache/sealcache/internal/rediserr"
	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
)

const (
	// usualMember is what Redis needs for a member that is an id or a name. Queues may have millions of members.
	usualMember = 512
	// maxSampled bounds how many members Redis measures. It needs about a tenth of a second for them.
	maxSampled = 1 << 20
)

// tasksOfSize returns the names of the tasks that are not too large to be read, and their sizes.
func (a *auditor) tasksOfSize(ctx context.Context, names []string, f *findings) (kept []string, sizes []int64, err error) {
	fields := taskFields()
	lengths := make([]*redis.IntCmd, 0, len(names)*len(fields))
	err = a.servers.Pipelined(ctx, func(p redis.Pipeliner) {
		for _, name := range names {
			for _, field := range fields {
				lengths = append(lengths, p.HStrLen(ctx, name, field))
			}
		}
	})
	if err != nil {
		return nil, nil, err
	}
	i := 0
	for of := range slices.Chunk(lengths, len(fields)) {
		size := int64(0)
		for _, length := range of {
			if err := unlessChanged(length.Err()); err != nil {
				return nil, nil, rediswalk.CallError("HSTRLEN", err)
			}
			size += length.Val()
		}
		if size > int64(a.tuning.MaxRead) {
			f.unread(names[i], a.Samples)
		} else {
			kept, sizes = append(kept, names[i]), append(sizes, size)
		}
		i++
	}
	return kept, sizes, nil
}

// readable reports whether a collection is small enough to be read, and counts one that is not. card counts the members of one
// that may have millions of them. No other command than MEMORY USAGE tells the size of members and of the names of fields.
func (a *auditor) readable(ctx context.Context, name string, card func(ctx context.Context, name string) *redis.IntCmd, f *findings) (bool, error) {
	most := int64(a.tuning.MaxRead)
	usage, err := a.servers.Client.MemoryUsage(ctx, name, maxSampled).Result()
	switch {
	case errors.Is(err, redis.Nil): // it is gone
	case rediserr.Unavailable(err):
		usage = math.MaxInt64
	case err != nil:
		return false, rediswalk.CallError("MEMORY USAGE", err)
	}
	if usage > most && card != nil {
		n, err := card(ctx, name).Result()
		if err = unlessChanged(err); err != nil && !rediserr.Unavailable(err) {
			return false, rediserr.Wrap(err)
		}
		usage -= n * usualMember
	}
	if usage > most {
		f.unread(name, a.Samples)
	}
	return usage <= most, nil
}
