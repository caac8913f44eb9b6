package sessions_test

import (
	"bytes"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/stores/memorystore"
)

// The memory of a record serves other sessions later. Each still gets the bytes that were committed.
func TestSessionsOfManySizesDoNotMix(t *testing.T) {
	t.Parallel()
	m, err := memorystore.New()
	require.NoError(t, err)
	s := open(t, oneWay(t, m))
	t.Cleanup(func() { require.NoError(t, m.Close()) })
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for i := range 20 {
				token := fmt.Sprintf("token-%d-%d", worker, i)
				session := bytes.Repeat([]byte{byte(worker*20 + i)}, (i*4003+worker)%70_000)
				if err := s.Commit(token, session, time.Now().Add(time.Hour)); err != nil {
					t.Error(err)
				}
				found, ok, err := s.Find(token)
				if err != nil || !ok || !bytes.Equal(found, session) {
					t.Errorf("a session of %d bytes came back with %d: %t, %v", len(session), len(found), ok, err)
				}
			}
		})
	}
	wg.Wait()
	found, ok, err := s.Find("token-0-19")
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, bytes.Repeat([]byte{19}, 19*4003%70_000), found)
}
