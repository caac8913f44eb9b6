package sessions_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/sealcache/sealcache/internal/leaktest"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/middleware/internal/keycheck"
	"github.com/sealcache/sealcache/middleware/sessions"
	"github.com/sealcache/sealcache/stores/memorystore"
	"github.com/sealcache/sealcache/stores/redisstore"
)

func memory(t testing.TB) *memorystore.Store {
	t.Helper()
	m, err := memorystore.New()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, m.Close()) })
	return m
}

func onRedis(t testing.TB, server *redistest.Server) *redisstore.Store {
	t.Helper()
	o := server.ClientOptions()
	o.ReadTimeout, o.WriteTimeout = time.Minute, time.Minute // a command that times out may be sent again
	client := redis.NewClient(o)
	t.Cleanup(func() { _ = client.Close() })
	s, err := redisstore.New(client)
	require.NoError(t, err)
	return s
}

func TestNewRefusesStoresThatShowTokens(t *testing.T) {
	t.Parallel()
	_, err := sessions.New(nil)
	require.ErrorContains(t, err, "the middleware.Store is nil")
	plain, err := middleware.New(memory(t), sealtest.Keyring(t))
	require.NoError(t, err)
	_, err = sessions.New(plain)
	require.ErrorContains(t, err, "WithOneWayKeys")
	for _, bad := range []sessions.Option{nil, sessions.WithUser(nil), sessions.WithIdleTimeout(time.Second), sessions.WithIdleTimeout(-1)} {
		_, err = sessions.New(oneWay(t, memory(t)), bad)
		require.Error(t, err)
	}
}

// Over a store without Touch, the idle end of a session in use would never move.
func TestNewRefusesAnIdleTimeoutWithoutTouch(t *testing.T) {
	t.Parallel()
	m := memory(t)
	sealed := oneWay(t, struct{ store.StoreInterface }{m}) // without the capabilities of m
	_, err := sessions.New(sealed, sessions.WithIdleTimeout(time.Hour))
	require.ErrorIs(t, err, middleware.ErrUnsupported)
	require.ErrorContains(t, err, "WithIdleTimeout")
	open(t, sealed)
	open(t, oneWay(t, m), sessions.WithIdleTimeout(time.Hour))
}

// EndAll would miss sessions whose tag Redis has evicted.
func TestNewRefusesServersThatEvictTags(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := server.Client(t)
	sealed := oneWay(t, onRedis(t, server))
	open(t, sealed, sessions.WithUser(userOf))
	require.NoError(t, client.ConfigSet(t.Context(), "maxmemory", "100mb").Err())
	for policy, safe := range map[string]bool{
		"noeviction": true, "volatile-ttl": true, "allkeys-lru": false, "allkeys-lfu": false, "allkeys-random": false,
		"volatile-lru": false, "volatile-lfu": false, "volatile-random": false,
	} {
		require.NoError(t, client.ConfigSet(t.Context(), "maxmemory-policy", policy).Err())
		_, err := sessions.New(sealed, sessions.WithUser(userOf))
		if safe {
			require.NoError(t, err, policy)
			continue
		}
		require.ErrorContains(t, err, "maxmemory-policy", policy)
		open(t, sealed)
		open(t, sealed, sessions.WithUser(userOf), sessions.WithLossyTags())
	}
	require.NoError(t, client.ConfigSet(t.Context(), "maxmemory-policy", "noeviction").Err())
	require.NoError(t, client.Do(t.Context(), "ACL", "SETUSER", "default", "-info").Err())
	_, err := sessions.New(sealed, sessions.WithUser(userOf))
	require.ErrorContains(t, err, "WithLossyTags")
}

// A login renews the token, a logout ends the session for every copy of its cookie, and "log out everywhere" ends all.
func TestHTTPSessions(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	var logged bytes.Buffer
	log := slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s := newSite(t, open(t, oneWay(t, onRedis(t, server), middleware.WithLogger(log)), sessions.WithUser(userOf)))

	alice := s.browser(t)
	alice.get(t, "/visit")
	before := alice.token(t)
	require.NotEmpty(t, before)
	alice.get(t, "/login?user=alice")
	require.Equal(t, "alice", alice.get(t, "/who"))
	token := alice.token(t)
	require.NotEqual(t, before, token)
	require.Empty(t, s.with(t, before), "the token from before the login is worth nothing")
	require.Equal(t, "alice", s.with(t, token))

	// Bad cookies are no session, no error page and no log line with the token.
	for _, bad := range []string{
		"", "x", token[1:], token + "A", strings.ToUpper(token), strings.Repeat("A", 40_000), "\xff\xfe", "%00", "a:b", "../../etc", "sessions:" + token,
		keycheck.Name,
	} {
		require.Empty(t, s.with(t, bad))
	}

	alice.get(t, "/logout")
	require.Empty(t, alice.get(t, "/who"))
	require.Empty(t, s.with(t, token))

	phone, laptop, bob := s.browser(t), s.browser(t), s.browser(t)
	phone.get(t, "/login?user=alice")
	laptop.get(t, "/login?user=alice")
	bob.get(t, "/login?user=bob")
	laptop.get(t, "/everywhere")
	require.Empty(t, phone.get(t, "/who"))
	require.Empty(t, laptop.get(t, "/who"))
	require.Equal(t, "bob", bob.get(t, "/who"))
	require.NotContains(t, logged.String(), token)
}

// Everything that Redis was sent and wrote is searched for tokens, users and values.
func TestDumpsHoldNoTokenAndNoUser(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--appendonly", "yes")
	client := server.Client(t)
	monitor := server.Monitor(t)
	s := newSite(t, open(t, oneWay(t, onRedis(t, server)), sessions.WithUser(userOf), sessions.WithIdleTimeout(time.Hour)))
	secrets := new(leaktest.Set)
	user := secrets.Text("user")
	b := s.browser(t)
	b.get(t, "/login?user="+user)
	require.Equal(t, user, b.get(t, "/who"))
	b.get(t, "/visit")
	token := b.token(t)
	secrets.AddText("token", token)
	raw, err := base64.RawURLEncoding.DecodeString(token)
	require.NoError(t, err)
	secrets.AddText("token bytes", string(raw))
	other := s.browser(t)
	other.get(t, "/login?user="+user)
	other.get(t, "/everywhere")

	require.NoError(t, client.Save(t.Context()).Err())
	require.Empty(t, secrets.Find(monitor.Bytes(t)))
	for name, content := range server.DumpFiles(t) {
		require.Empty(t, secrets.Find(content), name)
	}
}

// An attacker with a dump and write access cannot revive a session that has ended.
func TestRestoredDumpsReviveNoEndedSession(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := server.Client(t)
	s := open(t, oneWay(t, onRedis(t, server)))
	var name, dump string
	for life := 2 * time.Second; ; life *= 2 { // the session may end before a busy machine has read it
		require.Less(t, life, time.Minute)
		require.NoError(t, s.CommitCtx(t.Context(), "token", []byte("alice"), time.Now().Add(life)))
		names, err := client.Keys(t.Context(), "sessions:*").Result()
		require.NoError(t, err)
		if len(names) != 1 {
			continue
		}
		name = names[0]
		if dump, err = client.Dump(t.Context(), name).Result(); errors.Is(err, redis.Nil) {
			continue
		}
		require.NoError(t, err)
		require.NoError(t, client.Persist(t.Context(), name).Err())
		data, found, err := s.FindCtx(t.Context(), "token")
		require.NoError(t, err)
		if found {
			require.Equal(t, []byte("alice"), data)
			break
		}
	}
	sealtest.Eventually(t, func() bool {
		_, found, err := s.FindCtx(t.Context(), "token")
		require.NoError(t, err)
		return !found
	})
	require.NoError(t, client.RestoreReplace(t.Context(), name, 0, dump).Err())
	_, found, err := s.FindCtx(t.Context(), "token")
	require.NoError(t, err)
	require.False(t, found)
}

// The idle end moves with each use. The absolute end does not.
func TestTwoEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m, err := memorystore.New()
		require.NoError(t, err)
		defer m.Close()
		s := open(t, oneWay(t, m), sessions.WithIdleTimeout(10*time.Minute))
		found := func() bool {
			data, found, err := s.FindCtx(t.Context(), "token")
			require.NoError(t, err)
			require.Equal(t, found, string(data) == "data")
			return found
		}
		begin := time.Now()
		require.NoError(t, s.CommitCtx(t.Context(), "token", []byte("data"), begin.Add(time.Hour)))
		for time.Since(begin) < 54*time.Minute {
			time.Sleep(9 * time.Minute)
			require.True(t, found(), "used every nine minutes")
		}
		time.Sleep(time.Until(begin.Add(time.Hour)))
		require.False(t, found(), "the absolute end")

		require.NoError(t, s.CommitCtx(t.Context(), "token", []byte("data"), time.Now().Add(time.Hour)))
		time.Sleep(9 * time.Minute)
		touched, err := s.Touch(t.Context(), "token")
		require.NoError(t, err)
		require.True(t, touched)
		time.Sleep(9 * time.Minute)
		require.True(t, found())
		time.Sleep(10*time.Minute + 6*time.Second)
		require.False(t, found(), "the idle end")
		touched, err = s.Touch(t.Context(), "token")
		require.NoError(t, err)
		require.False(t, touched)

		require.NoError(t, s.CommitCtx(t.Context(), "token", []byte("data"), time.Now().Add(time.Hour)))
		require.NoError(t, s.CommitCtx(t.Context(), "token", []byte("data"), time.Now().Add(-time.Second)))
		require.False(t, found(), "an expiry in the past deletes")
	})
}

func TestAll(t *testing.T) {
	t.Parallel()
	_, err := open(t, oneWay(t, memory(t))).AllCtx(t.Context())
	require.ErrorIs(t, err, middleware.ErrUnsupported)

	server := redistest.Start(t)
	set, keys := sealtest.PRF(t, 1), sealtest.Keyring(t)
	backing := onRedis(t, server)
	sealed, err := middleware.New(backing, keys, middleware.WithNamespace("sessions"), middleware.WithHiddenKeys(set))
	require.NoError(t, err)
	s := open(t, sealed, sessions.WithUser(userOfNothing))
	all, err := s.All()
	require.NoError(t, err)
	require.NotNil(t, all)
	require.Empty(t, all)
	want := map[string][]byte{}
	for i := range 450 {
		token := "token" + string(rune('a'+i%26)) + strings.Repeat("x", i/26)
		want[token] = []byte(token)
		require.NoError(t, s.Commit(token, []byte(token), time.Now().Add(time.Hour)))
	}
	all, err = s.All()
	require.NoError(t, err)
	require.Equal(t, want, all)
}

func userOfNothing(context.Context, []byte) (string, error) { return "", nil }

func TestErrorsAndRefusals(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := server.Client(t)
	failing := errors.New("no user")
	var userErr error
	s := open(t, oneWay(t, onRedis(t, server)), sessions.WithUser(func(context.Context, []byte) (string, error) { return "u", userErr }))
	for _, token := range []string{"", strings.Repeat("t", 257)} {
		require.Error(t, s.Commit(token, nil, time.Now().Add(time.Hour)))
		require.NoError(t, s.Delete(token))
		_, found, err := s.Find(token)
		require.NoError(t, err)
		require.False(t, found)
	}
	userErr = failing
	require.ErrorIs(t, s.Commit("token", nil, time.Now().Add(time.Hour)), failing)
	userErr = sealtest.PanickingError{Cause: failing}
	err := s.Commit("token", nil, time.Now().Add(time.Hour))
	require.ErrorIs(t, err, failing)
	require.NotContains(t, err.Error(), sealtest.PanicSecret)
	require.Zero(t, client.DBSize(t.Context()).Val(), "nothing is written")
	userErr = nil
	require.Error(t, s.EndAll(t.Context(), ""))
	require.Error(t, open(t, oneWay(t, memory(t))).EndAll(t.Context(), "u"))

	// Altered and planted values are no session.
	require.NoError(t, s.Commit("token", []byte("x"), time.Now().Add(time.Hour)))
	data, found, err := s.Find("token")
	require.NoError(t, err)
	require.True(t, found)
	require.Equal(t, []byte("x"), data)
	var name string
	for _, n := range client.Keys(t.Context(), "sessions:*").Val() {
		if client.Type(t.Context(), n).Val() == "string" {
			name = n
		}
	}
	stored, err := client.Get(t.Context(), name).Bytes()
	require.NoError(t, err)
	stored[len(stored)-1] ^= 1
	for _, planted := range []string{string(stored), "", "plaintext"} {
		require.NoError(t, client.Set(t.Context(), name, planted, 0).Err())
		_, found, err := s.Find("token")
		require.NoError(t, err)
		require.False(t, found)
	}

	// A store that does not answer is an error, so that no user is logged out by an outage.
	require.NoError(t, server.Stop())
	_, _, err = s.Find("token")
	require.Error(t, err)
	require.Error(t, s.Commit("token", nil, time.Now().Add(time.Hour)))
	require.Error(t, s.Delete("token"))
	require.Error(t, s.EndAll(t.Context(), "u"))
}

// Replace writes only a session that exists, so that a logout is final. It moves the ends and the user as CommitCtx does.
func TestReplace(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	byUser := func(_ context.Context, encoded []byte) (string, error) { return string(encoded), nil }
	s := open(t, oneWay(t, onRedis(t, redistest.Start(t))), sessions.WithUser(byUser))
	end := time.Now().Add(time.Hour)
	replaced, err := s.Replace(ctx, "token", []byte("alice"), end)
	require.NoError(t, err)
	require.False(t, replaced)
	for name, logout := range map[string]func() error{
		"delete":  func() error { return s.DeleteCtx(ctx, "token") },
		"end all": func() error { return s.EndAll(ctx, "bob") },
		"past":    func() error { return s.CommitCtx(ctx, "token", []byte("bob"), time.Now().Add(-time.Hour)) },
	} {
		require.NoError(t, s.CommitCtx(ctx, "token", []byte("alice"), end), name)
		replaced, err = s.Replace(ctx, "token", []byte("bob"), end)
		require.NoError(t, err, name)
		require.True(t, replaced, name)
		require.NoError(t, s.EndAll(ctx, "nobody"), name)
		encoded, found, err := s.FindCtx(ctx, "token")
		require.NoError(t, err, name)
		require.True(t, found, name)
		require.Equal(t, "bob", string(encoded), name)
		require.NoError(t, logout(), name)
		replaced, err = s.Replace(ctx, "token", []byte("bob"), end)
		require.NoError(t, err, name)
		require.False(t, replaced, name)
		_, found, err = s.FindCtx(ctx, "token")
		require.NoError(t, err, name)
		require.False(t, found, name)
	}
	_, err = s.Replace(ctx, "", []byte("bob"), end)
	require.ErrorContains(t, err, "sessions: replace: the session token is empty")
}

// A session under a disabled key has ended. A session under a key that this process does not list may be sound. It is an
// error, also with WithMissOnOpenFailure, so that no user is logged out because this process is late.
func TestSessionsUnderOtherKeys(t *testing.T) {
	t.Parallel()
	both, old, _ := sealtest.Rotated(t, sealtest.Handle(t))
	m := keyset.NewManagerFromHandle(both)
	require.NoError(t, m.SetPrimary(old))
	before, err := m.Handle()
	require.NoError(t, err)
	m = keyset.NewManagerFromHandle(both)
	require.NoError(t, m.Disable(old))
	disabled, err := m.Handle()
	require.NoError(t, err)
	backing, names := memory(t), sealtest.PRF(t, 1)
	under := func(h *keyset.Handle, opts ...middleware.Option) *sessions.Store {
		opts = append(opts, middleware.WithNamespace("sessions"), middleware.WithOneWayKeys(names), middleware.WithLogger(sealtest.Quiet()))
		s, err := middleware.New(backing, sealtest.EnvelopeOf(t, sealtest.KeyringOf(t, h)), opts...)
		require.NoError(t, err)
		return open(t, s)
	}
	require.NoError(t, under(before).Commit("token", []byte("x"), time.Now().Add(time.Hour)))
	for name, opts := range map[string][]middleware.Option{"strict": nil, "lenient": {middleware.WithMissOnOpenFailure()}} {
		_, found, err := under(disabled, opts...).Find("token")
		require.NoError(t, err, name)
		require.False(t, found, name)
		replaced, err := under(disabled, opts...).Replace(t.Context(), "token", nil, time.Now().Add(time.Hour))
		require.NoError(t, err, name)
		require.False(t, replaced, name)
		_, found, err = under(sealtest.Handle(t), opts...).Find("token")
		require.ErrorIs(t, err, middleware.ErrUnknownKey, name)
		require.False(t, found, name)
	}
}

// Another value in the namespace of the sessions does not count as a session of a newer release.
func TestOtherValuesAreNoSessions(t *testing.T) {
	t.Parallel()
	sealed, err := middleware.New(memory(t), sealtest.Keyring(t), middleware.WithNamespace("sessions"),
		middleware.WithHiddenKeys(sealtest.PRF(t, 1)), middleware.WithLogger(sealtest.Quiet()))
	require.NoError(t, err)
	encoding, err := sealed.With(middleware.WithCodec(middleware.JSON[map[string]int]()))
	require.NoError(t, err)
	for _, value := range []any{
		[]byte(`{"user": "a"}`), []byte("\x02 short"), []byte("\x10 a value of 16"), []byte("\x00 a value of 0"), "text", 7, map[string]int{"a": 1},
	} {
		require.NoError(t, encoding.Set(t.Context(), "token", value))
		for _, s := range []*sessions.Store{open(t, sealed), open(t, sealed, sessions.WithIdleTimeout(time.Hour))} {
			_, found, err := s.Find("token")
			require.NoError(t, err, value)
			require.False(t, found, value)
			found, err = s.Touch(t.Context(), "token")
			require.NoError(t, err, value)
			require.False(t, found, value)
			all, err := s.All()
			require.NoError(t, err, value)
			require.Empty(t, all, value)
		}
	}
}

// FindCtx gives an idle end to a session that was stored without one.
func TestFindGivesAnIdleEnd(t *testing.T) {
	t.Parallel()
	m := memory(t)
	sealed := oneWay(t, m)
	session := binary.BigEndian.AppendUint64([]byte{1}, uint64(time.Now().Add(10*time.Hour).UnixMilli()))
	require.NoError(t, sealed.SetBytes(t.Context(), "token", append(session, "data"...), 0))
	_, left, err := sealed.GetWithTTL(t.Context(), "token")
	require.NoError(t, err)
	require.Zero(t, left)
	data, found, err := open(t, sealed, sessions.WithIdleTimeout(time.Hour)).Find("token")
	require.NoError(t, err)
	require.True(t, found)
	require.Equal(t, "data", string(data))
	_, left, err = sealed.GetWithTTL(t.Context(), "token")
	require.NoError(t, err)
	require.InDelta(t, time.Hour, left, float64(time.Minute))
}

// During a rollout, an older process must not log out the users whose sessions a newer release has written.
func TestSessionsOfANewerRelease(t *testing.T) {
	t.Parallel()
	hidden := func(opts ...middleware.Option) (*memorystore.Store, *middleware.Store) {
		backing := memory(t)
		opts = append(opts, middleware.WithNamespace("sessions"), middleware.WithHiddenKeys(sealtest.PRF(t, 1)), middleware.WithLogger(sealtest.Quiet()))
		s, err := middleware.New(backing, sealtest.Keyring(t), opts...)
		require.NoError(t, err)
		return backing, s
	}
	for name, opts := range map[string][]middleware.Option{"strict": nil, "lenient": {middleware.WithMissOnOpenFailure()}} {
		backing, sealed := hidden(opts...)
		s, ctx := open(t, sealed), t.Context()
		refused := func(what string) {
			_, found, err := s.Find("token")
			require.ErrorIs(t, err, middleware.ErrUnsupportedFormat, name+what)
			require.False(t, found)
			_, err = s.Touch(ctx, "token")
			require.ErrorIs(t, err, middleware.ErrUnsupportedFormat, name+what)
		}
		require.NoError(t, sealed.Set(ctx, "token", []byte("\x02 a session of version 2")))
		refused("record")
		_, err := s.All()
		require.ErrorIs(t, err, middleware.ErrUnsupportedFormat, name)

		require.NoError(t, s.Commit("token", []byte("x"), time.Now().Add(time.Hour)))
		for stored, err := range backing.Keys(ctx, "sessions:") {
			require.NoError(t, err)
			value, err := backing.GetBytes(ctx, stored)
			require.NoError(t, err)
			value[2]++ // the version of the format
			require.NoError(t, backing.SetBytes(ctx, stored, value))
		}
		refused("value")
	}
}
