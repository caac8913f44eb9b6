package redisstore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/redis/go-redis/v9"

	"github.com/sealcache/sealcache/internal/rediscmd"
	"github.com/sealcache/sealcache/internal/rediserr"
	"github.com/sealcache/sealcache/stores/internal/storeargs"
)

// unbounded is the limit of a read that takes any value.
const unbounded = math.MaxInt

const (
	opGet        = "get"
	opGetWithTTL = "get with TTL"
)

// Get returns the value as []byte, which the caller owns, or store.NotFound.
func (s *Store) Get(ctx context.Context, key any) (any, error) {
	name, err := storeargs.Key(key)
	if err != nil {
		return nil, failed(ctx, opGet, err)
	}
	b, err := s.GetBytes(ctx, name)
	if err != nil {
		return nil, err
	}
	return b, nil
}

// GetWithTTL returns the value as []byte, which the caller owns, and the time that the entry has left. The time is exact to
// the millisecond, at most 292 years, and 0 if the entry does not expire. An absent entry is store.NotFound. Value and time are read at the
// same moment, in one round trip.
func (s *Store) GetWithTTL(ctx context.Context, key any) (any, time.Duration, error) {
	name, err := storeargs.Key(key)
	if err != nil {
		return nil, 0, failed(ctx, opGetWithTTL, err)
	}
	b, ttl, err := s.GetBytesWithTTL(ctx, name)
	if err != nil {
		return nil, 0, err
	}
	return b, ttl, nil
}

// GetBytes is Get without interfaces.
func (s *Store) GetBytes(ctx context.Context, key string) ([]byte, error) {
	cmd, err := s.get(ctx, key)
	if err != nil {
		return nil, readError(ctx, opGet, err)
	}
	return s.ownBytes(ctx, opGet, cmd)
}

// GetBytesWithTTL is GetWithTTL without interfaces.
func (s *Store) GetBytesWithTTL(ctx context.Context, key string) ([]byte, time.Duration, error) {
	return s.getWithTTL(ctx, key, unbounded)
}

// GetBytesMax is GetBytes for a value of at most limit bytes. It reads at most one byte more from Redis. A larger value is an
// error whose method TooLarge returns true. It takes one round trip, as GetBytes does, with two commands. With a near cache an
// absent entry takes two.
//
// If the server refuses GETRANGE, the whole value is read and then compared.
func (s *Store) GetBytesMax(ctx context.Context, key string, limit int) ([]byte, error) {
	if limit < 0 || limit == unbounded {
		return nil, failed(ctx, opGet, errBadLimit)
	}
	part, exists, err := s.getStart(ctx, key, limit)
	return s.bounded(ctx, key, limit, part, exists, err)
}

// bounded returns the value of a bounded read. part is at most one byte more than limit. err is the error of the read: after
// one, the commands are not looked at.
func (s *Store) bounded(
	ctx context.Context, key string, limit int, part *redis.StringCmd, exists *redis.IntCmd, err error,
) ([]byte, error) {
	var b []byte
	if err == nil {
		b, err = s.ownBytes(ctx, opGet, part)
	} else {
		err = readError(ctx, opGet, err)
	}
	switch {
	case rediserr.Unavailable(err):
		b, err = s.GetBytes(ctx, key) // for any text with which GETRANGE was refused
	case err != nil || len(b) > 0:
	case exists.Err() == nil && exists.Val() == 0:
		return nil, store.NotFoundWithCause(redis.Nil)
	default: // an empty value, or an entry that was written between the two commands
		b, _, err = s.getWithTTL(ctx, key, limit)
	}
	return within(ctx, opGet, b, limit, err)
}

// GetBytesWithTTLMax is GetBytesMax with the time that the entry has left, as GetBytesWithTTL returns it.
func (s *Store) GetBytesWithTTLMax(ctx context.Context, key string, limit int) ([]byte, time.Duration, error) {
	if limit < 0 || limit == unbounded {
		return nil, 0, failed(ctx, opGetWithTTL, errBadLimit)
	}
	b, ttl, err := s.getWithTTL(ctx, key, limit)
	if rediserr.Unavailable(err) {
		b, ttl, err = s.getWithTTL(ctx, key, unbounded)
	}
	b, err = within(ctx, opGetWithTTL, b, limit, err)
	if err != nil {
		return nil, 0, err
	}
	return b, ttl, nil
}

var errBadLimit = errors.New("the maximum size in bytes that the caller gave is negative or too large")

// within refuses a value that is longer than limit.
func within(ctx context.Context, op string, b []byte, limit int, err error) ([]byte, error) {
	if err == nil && len(b) > limit {
		return nil, failed(ctx, op, tooLarge{})
	}
	return b, err
}

// tooLarge is the error of a bounded read.
type tooLarge struct{}

func (tooLarge) Error() string {
	return "the value is larger than the maximum size that the caller gave"
}
func (tooLarge) TooLarge() bool { return true }

// Whether the server runs transactions.
const (
	transactionsUnknown = iota
	transactionsRun
	transactionsRefused // it ran a script instead
)

// getWithTTL reads at most limit+1 bytes of a value, and its TTL, at one moment. It uses a transaction, or a script where the
// server runs none, so that a value never comes with another writer's TTL.
func (s *Store) getWithTTL(ctx context.Context, key string, limit int) ([]byte, time.Duration, error) {
	if key == "" && s.masters != nil || s.transactions.Load() == transactionsRefused { // go-redis finds no slot for a transaction on the empty key
		return s.getByScript(ctx, key, limit)
	}
	value, left, err := s.readTogether(ctx, key, limit)
	// For lack of memory the server refuses even a transaction that only reads.
	if forGood := rediserr.Unavailable(err) || rediserr.Code(err) == "EXECABORT"; forGood || rediserr.Code(err) == "OOM" {
		b, ttl, scriptErr := s.getByScript(ctx, key, limit)
		if scriptErr == nil || errors.Is(scriptErr, store.NotFound{}) {
			if forGood {
				s.transactions.Store(transactionsRefused)
			}
			return b, ttl, scriptErr
		}
	}
	if err != nil {
		return nil, 0, failed(ctx, opGetWithTTL, err)
	}
	b, err := s.ownBytes(ctx, opGetWithTTL, value)
	if err != nil {
		return nil, 0, err
	}
	if left == absentTTL {
		return nil, 0, store.NotFoundWithCause(redis.Nil)
	}
	return b, rediscmd.TimeLeft(left), nil
}

// readTogether reads the start of a value, and its TTL, in a transaction. An error means that there was no transaction.
func (s *Store) readTogether(ctx context.Context, key string, limit int) (value *redis.StringCmd, left int64, err error) {
	read := []any{"get", key}
	if limit != unbounded {
		read = []any{"getrange", key, 0, limit}
	}
	if s.masters != nil {
		value, pttl := redis.NewStringCmd(ctx, read...), redis.NewIntCmd(ctx, "pttl", key)
		pipe := s.client.TxPipeline()
		_, _ = pipe.Process(ctx, value), pipe.Process(ctx, pttl) // queues them
		_, _ = rediscmd.Exec(ctx, pipe)
		if rediserr.IsReply(value.Err()) && rediserr.Code(value.Err()) != "EXECABORT" && pttl.Err() != nil {
			return nil, 0, value.Err()
		}
		return value, pttl.Val(), pttl.Err()
	}
	// go-redis's TxPipeline stops to read at a refused MULTI. The replies that follow would then be read by another call on
	// the same connection. A plain pipeline reads a reply for each command.
	multi, exec := redis.NewStatusCmd(ctx, "multi"), redis.NewSliceCmd(ctx, "exec")
	commands := []redis.Cmder{multi, redis.NewStatusCmd(ctx, read...), redis.NewStatusCmd(ctx, "pttl", key), exec}
	pipe := s.client.Pipeline()
	for _, cmd := range commands {
		_ = pipe.Process(ctx, cmd) // queues it
	}
	if s.transactions.Load() == transactionsUnknown { // a server that accepts MULTI and refuses EXEC would queue the next call
		_ = pipe.Process(ctx, redis.NewStatusCmd(ctx, "discard"))
	}
	_, _ = rediscmd.Exec(ctx, pipe)
	for _, cmd := range commands {
		if err := cmd.Err(); err != nil {
			return nil, 0, err
		}
	}
	s.transactions.CompareAndSwap(transactionsUnknown, transactionsRun)
	return replies(ctx, exec.Val())
}

// replies returns what EXEC answers to a read and PTTL.
func replies(ctx context.Context, of []any) (value *redis.StringCmd, left int64, err error) {
	value = redis.NewStringCmd(ctx)
	if len(of) == 2 {
		left, isNumber := of[1].(int64)
		if isNumber {
			switch v := of[0].(type) {
			case nil:
				value.SetErr(redis.Nil)
				return value, left, nil
			case string:
				value.SetVal(v)
				return value, left, nil
			case error:
				value.SetErr(v)
				return value, left, nil
			}
		}
		if failure, ok := of[1].(error); ok {
			return nil, 0, failure
		}
	}
	return nil, 0, errors.New("the server sent a reply to EXEC that Redis never sends (does a proxy change replies?)")
}

// absentTTL is PTTL's answer for an absent entry.
const absentTTL = -2

// readError returns the error of a read.
func readError(ctx context.Context, op string, err error) error {
	if errors.Is(err, redis.Nil) {
		return store.NotFoundWithCause(err)
	}
	return failed(ctx, op, err)
}

// ownBytes takes the bytes of a reply. go-redis reads each reply into new memory (proto.Reader), and Bytes does not copy it.
// Only hooks and client-side caching can hold it as well.
func (s *Store) ownBytes(ctx context.Context, op string, cmd *redis.StringCmd) ([]byte, error) {
	b, err := cmd.Bytes()
	switch {
	case err != nil:
		return nil, readError(ctx, op, err)
	case b == nil:
		return []byte{}, nil
	case s.copies || len(b) == 1: // go-redis makes cached replies with string(b), which for one byte is read-only memory of Go
		return append([]byte{}, b...), nil
	default:
		return b, nil
	}
}

// getWithTTLSource reads the start of a value, and its TTL, at one moment. KEYS: entry. ARGV: last byte, -1 for all.
const getWithTTLSource = `return {redis.call('GETRANGE', KEYS[1], 0, ARGV[1]), redis.call('PTTL', KEYS[1])}`

// getByScript is getWithTTL without a transaction. Lua copies the value, which doubles the time for large ones.
func (s *Store) getByScript(ctx context.Context, key string, limit int) ([]byte, time.Duration, error) {
	last := -1
	if limit != unbounded {
		last = limit
	}
	reply, err := s.run(ctx, s.scripts.getWithTTL, []string{key}, last).Slice()
	if err != nil {
		return nil, 0, failed(ctx, opGetWithTTL, err)
	}
	if len(reply) == 2 {
		value, isText := reply[0].(string)
		left, isNumber := reply[1].(int64)
		switch {
		case !isText || !isNumber:
		case left == absentTTL:
			return nil, 0, store.NotFoundWithCause(redis.Nil)
		default:
			return []byte(value), rediscmd.TimeLeft(left), nil
		}
	}
	return nil, 0, failed(ctx, opGetWithTTL, fmt.Errorf("the script that reads a value with its TTL returned a wrong reply (does a proxy change replies?)"))
}
