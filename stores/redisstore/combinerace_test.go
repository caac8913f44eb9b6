package redisstore_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/redistest"
)

// carrying fills a buffer with a value that names its key, so that a value under another key, or half of one, is noticed.
func carrying(buffer []byte, key string, size int) []byte {
	buffer = append(buffer[:0], byte(len(key)))
	buffer = append(buffer, key...)
	for len(buffer) < size-4 {
		buffer = binary.LittleEndian.AppendUint64(buffer, rand.Uint64())
	}
	return binary.LittleEndian.AppendUint32(buffer, crc32.ChecksumIEEE(buffer))
}

func carries(value []byte, key string) bool {
	if len(value) < 5 || int(value[0]) != len(key) || !bytes.HasPrefix(value[1:], []byte(key)) {
		return false
	}
	end := len(value) - 4
	return binary.LittleEndian.Uint32(value[end:]) == crc32.ChecksumIEEE(value[:end])
}

// hammer lets 48 goroutines set and get values over connections that are cut every 300 ms, under contexts that end early.
// They overwrite a buffer as soon as SetBytes has returned nil, and after errors too if reuse is set. It returns the number
// of wrong values that were read, and stops at the first if asked, otherwise after some cuts.
func hammer(t *testing.T, reuse, stopAtFirst bool) (wrong int64) {
	t.Helper()
	proxy := redistest.StartProxy(t, redistest.Start(t).Addr())
	s := open(t, "redis://"+proxy.Addr()+"?pool_size=4&dial_timeout=2s")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var bad, sets, failures, gets atomic.Int64
	var wg sync.WaitGroup
	for w := range 48 {
		wg.Go(func() {
			var buffer []byte
			for i := 0; ctx.Err() == nil; i++ {
				key := fmt.Sprint("key-", w%24, "-", i%8) // two goroutines share each key
				one, end := context.WithTimeout(context.Background(), time.Duration(rand.IntN(20_000))*time.Microsecond)
				if i%3 == 2 {
					got, err := s.GetBytes(one, key)
					if gets.Add(1); err == nil && !carries(got, key) {
						if bad.Add(1); stopAtFirst {
							cancel()
						}
					}
					if err != nil && !errors.Is(err, &store.NotFound{}) {
						failures.Add(1)
					}
				} else {
					value := carrying(buffer, key, 64+rand.IntN(8<<10))
					err := s.SetBytes(one, key, value)
					if sets.Add(1); err != nil {
						failures.Add(1)
					}
					if err == nil || reuse {
						clear(value)
						buffer = value
					} else {
						buffer = nil
					}
				}
				end()
			}
		})
	}
	wg.Go(func() {
		tick := time.NewTicker(300 * time.Millisecond)
		defer tick.Stop()
		for cuts := 0; ; {
			select {
			case <-tick.C:
				proxy.Cut()
				cuts++
				if !stopAtFirst && cuts > 6 && failures.Load() > 0 && s.Stats().Combined > 0 {
					cancel()
				}
			case <-ctx.Done():
				return
			}
		}
	})
	wg.Wait()
	t.Logf("%d sets, %d gets, %d errors, %d wrong values, %+v", sets.Load(), gets.Load(), failures.Load(), bad.Load(), s.Stats())
	require.Positive(t, failures.Load())
	require.Positive(t, s.Stats().Combined)
	return bad.Load()
}

func TestBuffersUnderFaults(t *testing.T) { // not parallel: it keeps the processors busy
	require.Zero(t, hammer(t, false, false))
}

// The test above can fail: a caller that reuses buffers after errors has wrong values stored.
func TestBuffersReusedAfterErrors(t *testing.T) { // not parallel: it keeps the processors busy
	if raceEnabled {
		t.Skip("to change a buffer that is being sent is a data race, and meant to be one")
	}
	require.Positive(t, hammer(t, true, true))
}
