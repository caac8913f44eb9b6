package redisstore

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The limit is 4 while an operation of the last second was short, and that of the pool otherwise.
func TestQueueLimit(t *testing.T) {
	t.Parallel()
	var q queue
	now := time.Unix(1000, 0)
	require.Equal(t, 20, q.limit(now, 20), "nothing is known yet")
	require.Equal(t, 64, q.limit(now, 300))
	q.fastest.add(now, 500*time.Microsecond)
	require.Equal(t, 20, q.limit(now, 20))
	q.fastest.add(now.Add(time.Millisecond), 149*time.Microsecond)
	q.fastest.add(now.Add(2*time.Millisecond), 900*time.Microsecond)
	require.Equal(t, 4, q.limit(now.Add(3*time.Millisecond), 20))
	require.Equal(t, 2, q.limit(now.Add(3*time.Millisecond), 2))
	q.fastest.add(now.Add(1100*time.Millisecond), 600*time.Microsecond)
	require.Equal(t, 4, q.limit(now.Add(1900*time.Millisecond), 20), "the second before counts")
	q.fastest.add(now.Add(2100*time.Millisecond), 600*time.Microsecond)
	require.Equal(t, 20, q.limit(now.Add(2100*time.Millisecond), 20))
	require.Equal(t, 64, q.limit(now.Add(time.Hour), 300), "after a pause nothing is known")
}

func TestQueue(t *testing.T) {
	t.Parallel()
	var q queue
	calls := make([]*waitingCall, 5)
	for i := range calls {
		calls[i] = &waitingCall{size: i}
		q.push(calls[i])
	}
	require.True(t, q.withdraw(calls[2]))
	require.False(t, q.withdraw(calls[2]))
	require.True(t, q.withdraw(calls[0]))
	require.True(t, q.withdraw(calls[4]))
	require.Equal(t, []*waitingCall{calls[1], calls[3]}, q.take())
	require.False(t, q.withdraw(calls[1]))
	require.Nil(t, q.take())
	huge := &waitingCall{size: 2 * combinedBytes}
	q.push(huge)
	q.push(calls[0])
	require.Equal(t, []*waitingCall{huge}, q.take(), "the first goes, whatever its size")
	require.Equal(t, []*waitingCall{calls[0]}, q.take())
}
