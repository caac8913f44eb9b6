package sessions_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/alexedwards/scs/v2"
	"github.com/eko/gocache/lib/v4/store"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/middleware/sessions"
)

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/alexedwards/scs/v2/memstore.(*MemStore).startCleanup")) // scs.New starts it for good
}

var (
	_ scs.CtxStore         = (*sessions.Store)(nil)
	_ scs.IterableStore    = (*sessions.Store)(nil)
	_ scs.IterableCtxStore = (*sessions.Store)(nil)
)

// oneWay returns a sealed store over backing that hides tokens for good.
func oneWay(t testing.TB, backing store.StoreInterface, opts ...middleware.Option) *middleware.Store {
	t.Helper()
	opts = append([]middleware.Option{middleware.WithNamespace("sessions"), middleware.WithOneWayKeys(sealtest.PRF(t, 1))}, opts...)
	s, err := middleware.New(backing, sealtest.Keyring(t), opts...)
	require.NoError(t, err)
	return s
}

func open(t testing.TB, sealed *middleware.Store, opts ...sessions.Option) *sessions.Store {
	t.Helper()
	s, err := sessions.New(sealed, opts...)
	require.NoError(t, err)
	return s
}

// userOf decodes a session of scs by itself, since the manager is locked during Commit.
func userOf(_ context.Context, encoded []byte) (string, error) {
	_, values, err := scs.GobCodec{}.Decode(encoded)
	user, _ := values["user"].(string)
	return user, err
}

// site is an application with logins, as its users see it.
type site struct{ *httptest.Server }

func newSite(t *testing.T, s *sessions.Store) site {
	t.Helper()
	server := httptest.NewServer(newHandler(s))
	t.Cleanup(server.Close)
	return site{server}
}

// newHandler returns the pages of the application.
func newHandler(s *sessions.Store) http.Handler {
	m := scs.New()
	m.Store = s
	mux := http.NewServeMux()
	mux.HandleFunc("/login", func(w http.ResponseWriter, r *http.Request) {
		if err := m.RenewToken(r.Context()); err != nil {
			http.Error(w, "no", http.StatusInternalServerError)
			return
		}
		m.Put(r.Context(), "user", r.FormValue("user"))
	})
	mux.HandleFunc("/visit", func(_ http.ResponseWriter, r *http.Request) { m.Put(r.Context(), "visited", true) })
	mux.HandleFunc("/who", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, m.GetString(r.Context(), "user"))
	})
	mux.HandleFunc("/logout", func(w http.ResponseWriter, r *http.Request) {
		if err := m.Destroy(r.Context()); err != nil {
			http.Error(w, "no", http.StatusInternalServerError)
		}
	})
	mux.HandleFunc("/everywhere", func(w http.ResponseWriter, r *http.Request) {
		user := m.GetString(r.Context(), "user")
		if err := m.Destroy(r.Context()); err != nil {
			http.Error(w, "no", http.StatusInternalServerError)
			return
		}
		if err := s.EndAll(r.Context(), user); err != nil {
			http.Error(w, "no", http.StatusInternalServerError)
		}
	})
	return m.LoadAndSave(mux)
}

// browser is one user's browser.
type browser struct {
	*http.Client
	site site
}

func (s site) browser(t *testing.T) browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	client := &http.Client{Jar: jar, Transport: s.Client().Transport}
	return browser{client, s}
}

// get returns the body of a page, which must not be an error page.
func (b browser) get(t *testing.T, path string) string {
	t.Helper()
	r, err := b.Get(b.site.URL + path)
	require.NoError(t, err)
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, r.StatusCode, "%s: %s", path, body)
	return string(body)
}

// token returns the session cookie, or "".
func (b browser) token(t *testing.T) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, b.site.URL, nil)
	require.NoError(t, err)
	for _, c := range b.Jar.Cookies(r.URL) {
		if c.Name == "session" {
			return c.Value
		}
	}
	return ""
}

// with returns the body of /who for a raw Cookie header.
func (s site) with(t *testing.T, cookie string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/who", nil)
	require.NoError(t, err)
	r.Header["Cookie"] = []string{"session=" + cookie}
	reply, err := s.Client().Do(r)
	require.NoError(t, err)
	defer reply.Body.Close()
	body, err := io.ReadAll(reply.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, reply.StatusCode, "%.40s", strings.ToValidUTF8(cookie, "?"))
	return string(body)
}
