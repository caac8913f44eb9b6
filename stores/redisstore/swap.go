package redisstore

import (
	"context"
	"time"
)

// swapSource writes a value if the stored one is as expected. KEYS: entry. ARGV: its length, its last bytes, the new
// value, the TTL in milliseconds (0 none, -1 as it is).
const swapSource = `
local size = tonumber(ARGV[1])
if redis.call('STRLEN', KEYS[1]) ~= size then return 0 end
if size == 0 and redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
if size > 0 and redis.call('GETRANGE', KEYS[1], -#ARGV[2], -1) ~= ARGV[2] then return 0 end
if ARGV[4] == '-1' then
	redis.call('SET', KEYS[1], ARGV[3], 'KEEPTTL')
elseif ARGV[4] == '0' then
	redis.call('SET', KEYS[1], ARGV[3])
else
	redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4])
end
return 1`

// CompareAndSwap writes next if the entry's value has the length of old and ends with old's last tail bytes, and reports
// whether it did. A tail of 0 or less, or not shorter than old, compares all of it; a short tail spares Redis and the
// network the rest, and is enough where values end in random bytes, as sealed ones do. An entry that is absent is not
// equal to anything.
//
// With ttl < 0 the entry keeps its TTL to the millisecond. With 0 it does not expire. Otherwise it has that TTL. Its tags
// stay, and the TTLs of their sets do not change. If an entry shall live longer than Set said, set it with a TagsTTL of that
// length. Otherwise an invalidation may miss it.
//
// It is one script in Redis, sent once. After an error that is not a reply of the server, the value may have been written.
//
// Goroutines that read, change and swap one entry in a loop lose most of their swaps to each other. A mutex around the
// whole loop, in the process, makes eight of them three times as fast (256 B: 15,500 swaps a second against 5,800). A mutex
// around the swap alone would halve the speed.
func (s *Store) CompareAndSwap(
	ctx context.Context, key string, old []byte, tail int, next []byte, ttl time.Duration,
) (bool, error) {
	const op = "compare and swap"
	left := int64(-1)
	if ttl >= 0 {
		whole, err := wholeMilliseconds(ttl)
		if err != nil {
			return false, failed(ctx, op, err)
		}
		left = whole.Milliseconds()
	}
	end := old
	if tail > 0 && tail < len(old) {
		end = old[len(old)-tail:]
	}
	n, err := s.runOnce(ctx, s.scripts.swap, []string{key}, len(old), end, next, left).Int64()
	return n == 1, failed(ctx, op, err)
}
