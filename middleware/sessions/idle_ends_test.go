package sessions_test

import (
	"encoding/binary"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/middleware/sessions"
	"github.com/sealcache/sealcache/stores/memorystore"
)

// The process that wrote a session has a clock that is 5 seconds ahead. So the sealed end is later than the TTL in the
// backing store. A session in constant use must not end.
func TestIdleEndWithAnotherClock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const idle, ahead = 4 * time.Second, 5 * time.Second
		m, err := memorystore.New()
		require.NoError(t, err)
		defer m.Close()
		ctx, sealed := t.Context(), oneWay(t, m)
		ending, err := sealed.With(middleware.WithAuthenticatedExpiry())
		require.NoError(t, err)
		session := binary.BigEndian.AppendUint64([]byte{1}, uint64(time.Now().Add(10*time.Hour).UnixMilli()))
		require.NoError(t, ending.SetBytes(ctx, "token", append(session, "data"...), idle+ahead))
		for name, err := range m.Keys(ctx, "") {
			require.NoError(t, err)
			b, err := m.GetBytes(ctx, name)
			require.NoError(t, err)
			require.NoError(t, m.SetBytes(ctx, name, b, store.WithExpiration(idle)))
		}
		s := open(t, sealed, sessions.WithIdleTimeout(idle))
		for n := range 20 {
			_, found, err := s.Find("token")
			require.NoError(t, err)
			require.True(t, found, "after %d uses", n)
			time.Sleep(idle / 8)
		}
	})
}

// A shorter idle timeout, or a first one, also counts for the sessions that exist: they are in use, and then not.
func TestIdleTimeoutOfFormerSessions(t *testing.T) {
	t.Parallel()
	for name, former := range map[string][]sessions.Option{"none": nil, "longer": {sessions.WithIdleTimeout(10 * time.Hour)}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				m, err := memorystore.New()
				require.NoError(t, err)
				defer m.Close()
				sealed := oneWay(t, m)
				require.NoError(t, open(t, sealed, former...).Commit("token", []byte("data"), time.Now().Add(10*time.Hour)))
				s := open(t, sealed, sessions.WithIdleTimeout(10*time.Minute))
				_, found, err := s.Find("token")
				require.NoError(t, err)
				require.True(t, found)
				time.Sleep(time.Hour)
				_, found, err = s.Find("token")
				require.NoError(t, err)
				require.False(t, found, "the session was not used for an hour")
			})
		})
	}
}
