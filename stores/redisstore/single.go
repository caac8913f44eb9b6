package redisstore

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/sealcache/sealcache/internal/rediscmd"
)

// The commands on one entry that the combiner may send together with those of other callers.

// get reads an entry. After an error the command must not be read.
func (s *Store) get(ctx context.Context, key string) (*redis.StringCmd, error) {
	if s.combiner == nil {
		cmd := s.client.Get(ctx, key)
		return cmd, cmd.Err()
	}
	cmd := redis.NewStringCmd(ctx, "get", key)
	return cmd, s.combiner.process(ctx, request{key: key, cmd: cmd})
}

// getStart reads at most one byte more than limit of an entry. It also asks whether the entry exists, because the start of an
// absent entry is empty too. After an error the commands must not be read.
func (s *Store) getStart(ctx context.Context, key string, limit int) (*redis.StringCmd, *redis.IntCmd, error) {
	if s.near != nil { // a pipeline would read past it
		part, unknown := s.client.GetRange(ctx, key, 0, int64(limit)), &redis.IntCmd{}
		unknown.SetVal(1)
		return part, unknown, part.Err()
	}
	if s.combiner == nil {
		pipe := s.client.Pipeline()
		part, exists := pipe.GetRange(ctx, key, 0, int64(limit)), pipe.Exists(ctx, key)
		_, _ = rediscmd.Exec(ctx, pipe)
		return part, exists, part.Err()
	}
	part, exists := redis.NewStringCmd(ctx, "getrange", key, 0, limit), redis.NewIntCmd(ctx, "exists", key)
	return part, exists, s.combiner.process(ctx, request{key: key, cmd: part, also: exists})
}

// setPlain writes an entry without tags.
func (s *Store) setPlain(ctx context.Context, key string, value any, callerOwned bool, ttl time.Duration) error {
	size, ok := valueBytes(value)
	if s.combiner == nil || !ok {
		return s.client.Set(ctx, key, value, ttl).Err()
	}
	args := make([]any, 3, 5)
	args[0], args[1], args[2] = "set", key, value
	if ttl > 0 {
		args = append(args, "px", ttl.Milliseconds())
	}
	r := request{key: key, cmd: redis.NewStatusCmd(ctx, args...), size: size, write: true}
	if callerOwned {
		r.callerOwnedArg = 2
	}
	return s.combiner.process(ctx, r)
}

// del removes an entry. UNLINK would free a string no faster.
func (s *Store) del(ctx context.Context, key string) error {
	if s.combiner == nil {
		return s.client.Del(ctx, key).Err()
	}
	return s.combiner.process(ctx, request{key: key, cmd: redis.NewIntCmd(ctx, "del", key), write: true})
}

// valueBytes returns the size of a value that may be sent after its caller has left, once bytes are copied. The target of
// a pointer may have changed by then.
func valueBytes(value any) (int, bool) {
	switch v := value.(type) {
	case []byte:
		return len(v), true
	case string:
		return len(v), true
	default:
		return 0, false
	}
}
