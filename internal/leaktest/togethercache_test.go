package leaktest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alexedwards/scs/v2"
	gocache "github.com/eko/gocache/lib/v4/cache"
	"github.com/eko/gocache/lib/v4/store"
	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/middleware/sessions"
	"github.com/sealcache/sealcache/stores/redisstore"
)

// cache is a cache with every option that hides something.
type cache struct {
	name              string
	backing           *redisstore.Store
	keys              tink.AEADWithContext
	hide, compression middleware.Option
}

type person struct {
	Name  string
	Notes []string
}

func (a *application) useCache(t *testing.T, c cache) {
	t.Helper()
	ctx := t.Context()
	s, err := middleware.New(c.backing, c.keys, a.reporting(c.hide, c.compression, middleware.WithNamespace(c.name),
		middleware.WithPadding(), middleware.WithAuthenticatedExpiry(), middleware.WithMaxValueBytes(50_000),
		middleware.WithCodec(middleware.JSON[person]()), middleware.WithDefaults(store.WithExpiration(time.Hour)))...)
	require.NoError(t, err)
	require.NoError(t, a.Err(s.Check(ctx)))

	tag, otherTag := a.text(c.name+" tag"), a.text(c.name+" other tag")
	items, keys := map[string]any{}, []string{}
	for i := range 12 {
		key := a.text(fmt.Sprint(c.name, " key ", i))
		text := a.text(fmt.Sprint(c.name, " value ", i))
		values := []any{text, []byte(text), person{Name: text, Notes: []string{text}}, strings.Repeat("- ", 2000) + text}
		items[key], keys = values[i%len(values)], append(keys, key)
	}
	require.NoError(t, a.Err(s.SetMany(ctx, items, store.WithTags([]string{tag}))))
	for key, value := range items {
		require.NoError(t, a.Err(s.Set(ctx, key, value, store.WithTags([]string{tag, otherTag}))))
		written, err := s.SetIfNotExists(ctx, key, value)
		require.NoError(t, a.Err(err))
		require.False(t, written)
		require.NoError(t, a.Err(s.Touch(ctx, key, 2*time.Hour)))
		require.NoError(t, a.Err(s.Update(ctx, key, func(old any, _ bool) (any, error) { return old, nil })))
		got, _, err := s.GetWithTTL(ctx, key)
		require.NoError(t, a.Err(err))
		require.Equal(t, value, got)
	}
	a.useTogether(t, s, items)
	got, err := s.GetMany(ctx, append(keys, a.text(c.name+" absent")))
	require.NoError(t, a.Err(err))
	require.Equal(t, items, got)
	for _, err := range s.Keys(ctx) {
		_ = a.Err(err) // one-way names cannot be listed
	}

	counter, n := a.text(c.name+" counter"), a.number(c.name+" number")
	for range 3 {
		_, err = s.Increment(ctx, counter, n/8)
		require.NoError(t, a.Err(err))
	}
	require.NoError(t, a.Err(s.Set(ctx, counter, n)))
	_, err = s.GetAndDelete(ctx, counter)
	require.NoError(t, a.Err(err))
	a.fail(t, s, c, keys)
	require.NoError(t, a.Err(s.Delete(ctx, keys[0])))
	require.NoError(t, a.Err(s.DeleteMany(ctx, keys[:3])))
	require.NoError(t, a.Err(s.Invalidate(ctx, store.WithInvalidateTags([]string{otherTag}))))
	require.NoError(t, a.Err(s.Clear(ctx)))
	require.NoError(t, a.Err(s.SetMany(ctx, items, store.WithTags([]string{tag, otherTag})))) // for the dump
}

// useTogether reads and writes from so many goroutines that commands are combined, and through the layers of gocache.
func (a *application) useTogether(t *testing.T, s *middleware.Store, items map[string]any) {
	t.Helper()
	var all sync.WaitGroup
	for range 8 {
		for key, want := range items {
			all.Go(func() {
				for range 10 {
					got, err := s.Get(t.Context(), key)
					if a.Err(err) != nil {
						t.Error(err)
					} else if text, ok := want.(string); ok && text != got {
						t.Error("another value")
					}
					if a.Err(s.Set(t.Context(), key, want)) != nil {
						t.Error("not written")
					}
				}
			})
		}
	}
	all.Wait()
	key := a.text("loaded key")
	c := gocache.NewLoadable[string](func(context.Context, any) (string, []store.Option, error) {
		return a.text("loaded value"), []store.Option{store.WithTags([]string{a.text("loaded tag")})}, nil
	}, gocache.New[string](s))
	_, err := c.Get(t.Context(), key)
	require.NoError(t, a.Err(err))
	require.NoError(t, a.Err(c.Close()))
}

// fail calls operations whose errors could show a name or a value.
func (a *application) fail(t *testing.T, s *middleware.Store, c cache, keys []string) {
	t.Helper()
	ctx, rdb := t.Context(), a.server.Client(t)
	refused := a.text(c.name + " refused")
	require.ErrorIs(t, a.Err(s.Set(ctx, keys[0], struct{ Secret string }{refused})), middleware.ErrUnsupportedType)
	require.ErrorIs(t, a.Err(s.Set(ctx, keys[0], strings.Repeat(refused, 5000))), middleware.ErrTooLarge)
	require.ErrorIs(t, a.Err(s.SetMany(ctx, map[string]any{strings.Repeat(refused, 1000): 1})), middleware.ErrTooLarge)
	_, err := s.Increment(ctx, keys[0], 1)
	require.ErrorIs(t, a.Err(err), middleware.ErrNotANumber)
	failure := errors.New("no change")
	require.ErrorIs(t, a.Err(s.Update(ctx, keys[0], func(any, bool) (any, error) { return nil, failure })), failure)
	over, cancel := context.WithCancel(ctx)
	cancel()
	require.Error(t, a.Err(s.Set(over, keys[0], refused)))
	// Every entry of the namespace is altered, and read again in each way.
	names, err := rdb.Keys(ctx, c.name+":*").Result()
	require.NoError(t, err)
	for _, name := range names {
		if b, err := rdb.Get(ctx, name).Bytes(); err == nil {
			b[len(b)-1] ^= 1
			require.NoError(t, rdb.Set(ctx, name, b, time.Hour).Err())
		}
	}
	_, err = s.GetMany(ctx, keys)
	require.ErrorIs(t, a.Err(err), middleware.ErrUnauthentic)
	_, err = s.Increment(ctx, keys[1], 1)
	require.ErrorIs(t, a.Err(err), middleware.ErrUnauthentic)
	for _, err := range s.Keys(ctx) {
		_ = a.Err(err)
	}
}

// useSessions logs users in and out over HTTP.
func (a *application) useSessions(t *testing.T, backing *redisstore.Store, keys tink.AEADWithContext) {
	t.Helper()
	sealed, err := middleware.New(backing, keys, a.reporting(middleware.WithNamespace("sessions"), middleware.WithOneWayKeys(sealtest.PRF(t, 1)))...)
	require.NoError(t, err)
	s, err := sessions.New(sealed, sessions.WithIdleTimeout(time.Hour), sessions.WithUser(func(_ context.Context, encoded []byte) (string, error) {
		_, values, err := scs.GobCodec{}.Decode(encoded)
		user, _ := values["user"].(string)
		return user, err
	}))
	require.NoError(t, err)
	m := scs.New()
	m.Store = s
	m.ErrorFunc = func(w http.ResponseWriter, _ *http.Request, err error) {
		_ = a.Err(err)
		http.Error(w, "no", http.StatusInternalServerError)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/login", func(_ http.ResponseWriter, r *http.Request) {
		_ = a.Err(m.RenewToken(r.Context()))
		m.Put(r.Context(), "user", r.FormValue("user"))
	})
	mux.HandleFunc("/put", func(_ http.ResponseWriter, r *http.Request) { m.Put(r.Context(), "note", r.FormValue("note")) })
	mux.HandleFunc("/user", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, m.GetString(r.Context(), "user"))
	})
	mux.HandleFunc("/logout", func(_ http.ResponseWriter, r *http.Request) { _ = a.Err(m.Destroy(r.Context())) })
	web := httptest.NewServer(m.LoadAndSave(mux))
	defer web.Close()
	address, err := url.Parse(web.URL)
	require.NoError(t, err)

	user, note := a.text("user"), a.text("note of a session")
	browser := func(name string) (get func(path string) string) {
		jar, err := cookiejar.New(nil)
		require.NoError(t, err)
		client := &http.Client{Jar: jar, Transport: web.Client().Transport}
		return func(path string) string {
			r, err := client.Get(web.URL + path)
			require.NoError(t, err)
			defer r.Body.Close()
			body, err := io.ReadAll(r.Body)
			require.NoError(t, err)
			require.Equal(t, http.StatusOK, r.StatusCode)
			for _, cookie := range jar.Cookies(address) {
				a.issued(t, name, cookie.Value)
			}
			return string(body)
		}
	}
	phone, laptop := browser("token of the phone"), browser("token of the laptop")
	for _, get := range []func(string) string{phone, laptop} {
		get("/put?note=" + note)
		get("/login?user=" + user)
		get("/put?note=" + note)
		require.Equal(t, user, get("/user"))
	}
	laptop("/logout")
	require.Empty(t, laptop("/user"))
	laptop("/login?user=" + user)
	require.NoError(t, a.Err(s.EndAll(t.Context(), user)))
	require.Empty(t, phone("/user"))
	phone("/login?user=" + user) // for the dump
	_, err = s.AllCtx(t.Context())
	require.ErrorIs(t, a.Err(err), middleware.ErrUnsupported)
}
