package box

import (
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// manyKeys knows every id but those below 10. The key 10 is the primary key.
type manyKeys struct{ tink.AEADWithContext }

func (manyKeys) KeyRole(id uint32) (known, primary bool) { return id >= 10, id == 10 }

// Reads lose no count among concurrent readers, and tell a bounded number of keys apart.
func TestReadsAreExactAndBounded(t *testing.T) {
	t.Parallel()
	var labels sync.Map
	var reported atomic.Int64
	r := NewReads(manyKeys{})
	const readers, ids = 8, 1000
	var wg sync.WaitGroup
	for range readers {
		wg.Go(func() {
			for id := range uint32(ids) {
				if label := r.count(id); label != "" {
					labels.Store(label, true)
					reported.Add(1)
				}
			}
		})
	}
	wg.Wait()
	counts := r.Counts()
	var total uint64
	for id, n := range counts {
		require.False(t, id > 0 && id <= 10, id)
		total += n
	}
	require.EqualValues(t, readers*(ids-1), total)
	require.EqualValues(t, total, reported.Load())
	require.LessOrEqual(t, len(counts), maxCountedKeys+1)
	require.Greater(t, counts[UnknownKey], uint64(readers*10))
	labels.Range(func(label, _ any) bool {
		id, err := strconv.ParseUint(label.(string), 10, 32) //nolint:forcetypeassert // a string was stored
		require.True(t, label == "unknown" || err == nil && counts[uint32(id)] == readers, label)
		return true
	})
	require.Nil(t, NewReads(nil))
	require.Empty(t, NewReads(nil).Counts())
}
