package gorillasessions_test

import (
	"encoding/gob"
	"errors"
	"io"
	"math"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/sessions"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/leaktest"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware"
	sealed "github.com/sealcache/sealcache/middleware/sessions"
	"github.com/sealcache/sealcache/middleware/sessions/gorillasessions"
	"github.com/sealcache/sealcache/stores/redisstore"
)

func open(t *testing.T, server *redistest.Server) (*gorillasessions.Store, *sealed.Store) {
	t.Helper()
	backing, err := redisstore.New(server.Client(t))
	require.NoError(t, err)
	store, err := middleware.New(backing, sealtest.Keyring(t), middleware.WithNamespace("web"), middleware.WithOneWayKeys(sealtest.PRF(t, 1)))
	require.NoError(t, err)
	s, err := sealed.New(store, sealed.WithUser(gorillasessions.UserIn("user")), sealed.WithIdleTimeout(time.Hour))
	require.NoError(t, err)
	c, err := gorillasessions.New(s, gorillasessions.WithOptions(sessions.Options{Path: "/", MaxAge: 3600, HttpOnly: true}))
	require.NoError(t, err)
	return c, s
}

func TestNew(t *testing.T) {
	t.Parallel()
	_, err := gorillasessions.New(nil)
	require.Error(t, err)
	_, s := open(t, redistest.Start(t))
	_, err = gorillasessions.New(s, nil)
	require.Error(t, err)
	c, err := gorillasessions.New(s)
	require.NoError(t, err)
	require.True(t, c.Options().Secure)
	require.True(t, c.Options().HttpOnly)
	require.Equal(t, http.SameSiteLaxMode, c.Options().SameSite)
}

// A lifetime that no time.Duration holds would become another one: nothing was stored, and Save reported success.
func TestMaxAge(t *testing.T) {
	t.Parallel()
	c, s := open(t, redistest.Start(t))
	const longest = int64(math.MaxInt64 / time.Second)
	for _, age := range []int64{longest, longest + 1, 1 << 62, int64(30 * 24 * time.Hour)} {
		if age > math.MaxInt {
			continue // not possible where an int has 32 bits
		}
		_, errNew := gorillasessions.New(s, gorillasessions.WithOptions(sessions.Options{MaxAge: int(age)}))
		r, w := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil), httptest.NewRecorder()
		session := sessions.NewSession(c, "session")
		session.Options, session.Values["user"] = &sessions.Options{MaxAge: int(age)}, "anne"
		errSave := session.Save(r, w)
		cookies := w.Result().Cookies()
		if age > longest {
			require.ErrorContains(t, errNew, "WithOptions: MaxAge is over 9223372036")
			require.ErrorContains(t, errSave, "gorillasessions: save: MaxAge is over 9223372036")
			require.Empty(t, cookies)
			continue
		}
		require.NoError(t, errors.Join(errNew, errSave))
		require.Len(t, cookies, 1)
		next := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		next.AddCookie(cookies[0])
		got, err := c.Get(next, "session")
		require.NoError(t, err)
		require.Equal(t, "anne", got.Values["user"])
	}
}

func site(t *testing.T, c *gorillasessions.Store, s *sealed.Store) *httptest.Server {
	t.Helper()
	handle := func(mux *http.ServeMux, path string, f func(w http.ResponseWriter, r *http.Request, session *sessions.Session) error) {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			session, err := c.Get(r, "session")
			if err == nil {
				err = f(w, r, session)
			}
			if err != nil {
				http.Error(w, "no", http.StatusInternalServerError)
			}
		})
	}
	mux := http.NewServeMux()
	handle(mux, "/visit", func(w http.ResponseWriter, r *http.Request, session *sessions.Session) error {
		session.Values["visited"] = true
		return session.Save(r, w)
	})
	handle(mux, "/login", func(w http.ResponseWriter, r *http.Request, session *sessions.Session) error {
		if err := c.Renew(r.Context(), session); err != nil {
			return err
		}
		session.Values["user"] = r.FormValue("user")
		return session.Save(r, w)
	})
	handle(mux, "/who", func(w http.ResponseWriter, _ *http.Request, session *sessions.Session) error {
		user, _ := session.Values["user"].(string)
		_, err := io.WriteString(w, user)
		return err
	})
	handle(mux, "/logout", func(w http.ResponseWriter, r *http.Request, session *sessions.Session) error {
		session.Options.MaxAge = -1
		return session.Save(r, w)
	})
	handle(mux, "/everywhere", func(_ http.ResponseWriter, r *http.Request, session *sessions.Session) error {
		user, _ := session.Values["user"].(string)
		return s.EndAll(r.Context(), user)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server
}

func get(t *testing.T, client *http.Client, url, cookie string) (body string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	if cookie != "" {
		r.Header["Cookie"] = []string{"session=" + cookie}
	}
	reply, err := client.Do(r)
	require.NoError(t, err)
	defer reply.Body.Close()
	b, err := io.ReadAll(reply.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, reply.StatusCode)
	return string(b)
}

func TestSessionsOfRealRequests(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--appendonly", "yes")
	monitor := server.Monitor(t)
	c, s := open(t, server)
	web := site(t, c, s)
	secrets := new(leaktest.Set)
	user := secrets.Text("user")
	browser := func() *http.Client {
		jar, err := cookiejar.New(nil)
		require.NoError(t, err)
		return &http.Client{Jar: jar, Transport: web.Client().Transport}
	}
	token := func(c *http.Client) string {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, web.URL, nil)
		require.NoError(t, err)
		for _, cookie := range c.Jar.Cookies(r.URL) {
			return cookie.Value
		}
		return ""
	}

	alice := browser()
	get(t, alice, web.URL+"/visit", "")
	before := token(alice)
	get(t, alice, web.URL+"/login?user="+user, "")
	after := token(alice)
	require.NotEqual(t, before, after, "a login gives a new token")
	require.Equal(t, user, get(t, alice, web.URL+"/who", ""))
	bare := web.Client()
	require.Empty(t, get(t, bare, web.URL+"/who", before))
	require.Equal(t, user, get(t, bare, web.URL+"/who", after))
	for _, bad := range []string{"x", after + "A", after[1:], strings.Repeat("A", 40_000), "\xff", strings.Repeat("A", 43)} {
		require.Empty(t, get(t, bare, web.URL+"/who", bad))
	}
	get(t, alice, web.URL+"/logout", "")
	require.Empty(t, get(t, bare, web.URL+"/who", after))

	phone, laptop := browser(), browser()
	get(t, phone, web.URL+"/login?user="+user, "")
	get(t, laptop, web.URL+"/login?user="+user, "")
	get(t, laptop, web.URL+"/everywhere", "")
	require.Empty(t, get(t, phone, web.URL+"/who", ""))

	secrets.AddText("token", after)
	require.NoError(t, server.Client(t).Save(t.Context()).Err())
	require.Empty(t, secrets.Find(monitor.Bytes(t)))
	for name, content := range server.DumpFiles(t) {
		require.Empty(t, secrets.Find(content), name)
	}
}

// A token that the store does not know is not adopted.
func TestUnknownTokensAreNotAdopted(t *testing.T) {
	t.Parallel()
	c, _ := open(t, redistest.Start(t))
	planted := strings.Repeat("A", 43)
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	r.AddCookie(&http.Cookie{Name: "session", Value: planted})
	session, err := c.New(r, "session")
	require.NoError(t, err)
	require.True(t, session.IsNew)
	w := httptest.NewRecorder()
	require.NoError(t, c.Save(r, w, session))
	require.NotEqual(t, planted, session.ID)
	require.Len(t, session.ID, 43)
}

// A client presents the token of one session in the cookie of another one. Its values must not appear there: the
// application may trust "user" in the one and let the client choose it in the other.
func TestATokenBelongsToOneName(t *testing.T) {
	t.Parallel()
	c, s := open(t, redistest.Start(t))
	with := func(name, token string) *http.Request {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		r.AddCookie(&http.Cookie{Name: name, Value: token})
		return r
	}
	cart := sessions.NewSession(c, "cart")
	options := c.Options()
	cart.Options = &options
	cart.Values["user"] = "admin"
	require.NoError(t, c.Save(with("none", ""), httptest.NewRecorder(), cart))

	again, err := c.New(with("cart", cart.ID), "cart")
	require.NoError(t, err)
	require.False(t, again.IsNew)
	require.Equal(t, "admin", again.Values["user"])
	other, err := c.New(with("admin", cart.ID), "admin")
	require.NoError(t, err)
	require.True(t, other.IsNew)
	require.Empty(t, other.Values)
	require.Empty(t, other.ID, "its token is new")

	require.NoError(t, s.EndAll(t.Context(), "admin"))
	again, err = c.New(with("cart", cart.ID), "cart")
	require.NoError(t, err)
	require.True(t, again.IsNew, "UserIn reads the values")
}

// A request that began before a logout saves its session after it. The session does not come back.
func TestALogoutIsFinal(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	c, s := open(t, server)
	client := server.Client(t)
	for name, logout := range map[string]func(r *http.Request, session *sessions.Session) error{
		"logout": func(r *http.Request, session *sessions.Session) error {
			session.Options.MaxAge = -1
			return c.Save(r, httptest.NewRecorder(), session)
		},
		"log out everywhere": func(r *http.Request, _ *sessions.Session) error { return s.EndAll(r.Context(), "alice") },
		"renewal":            func(r *http.Request, session *sessions.Session) error { return c.Renew(r.Context(), session) },
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		session, err := c.New(r, "session")
		require.NoError(t, err, name)
		session.Values["user"] = "alice"
		require.NoError(t, c.Save(r, httptest.NewRecorder(), session), name)
		require.NoError(t, c.Save(r, httptest.NewRecorder(), session), "%s: it may be saved twice", name)
		r.AddCookie(&http.Cookie{Name: "session", Value: session.ID})
		slow, err := c.New(r, "session")
		require.NoError(t, err, name)
		require.False(t, slow.IsNew, name)

		require.NoError(t, logout(r, session), name)
		w := httptest.NewRecorder()
		require.ErrorIs(t, c.Save(r, w, slow), gorillasessions.ErrEnded, name)
		require.Empty(t, w.Header(), "%s: it sets no cookie", name)
		again, err := c.New(r, "session")
		require.NoError(t, err, name)
		require.True(t, again.IsNew, name)
	}
	for _, key := range client.Keys(t.Context(), "web:*").Val() {
		require.NotContains(t, client.Type(t.Context(), key).Val(), "string", "a session is left")
	}
}

// After a logout, the same request may begin another session, for a message to the user or a login. Its token is new.
func TestALogoutAndANewSessionInOneRequest(t *testing.T) {
	t.Parallel()
	c, _ := open(t, redistest.Start(t))
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	session, err := c.New(r, "session")
	require.NoError(t, err)
	session.Values["user"] = "alice"
	require.NoError(t, c.Save(r, httptest.NewRecorder(), session))
	ended := session.ID

	session.Options.MaxAge = -1
	for range 2 { // the second one has nothing to delete
		require.NoError(t, c.Save(r, httptest.NewRecorder(), session))
		require.Empty(t, session.ID)
	}
	session.Options.MaxAge = 3600
	clear(session.Values)
	session.Values["message"] = "goodbye"
	require.NoError(t, c.Save(r, httptest.NewRecorder(), session))
	require.Len(t, session.ID, len(ended))
	require.NotEqual(t, ended, session.ID)

	find := func(token string) *sessions.Session {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		r.AddCookie(&http.Cookie{Name: "session", Value: token})
		found, err := c.New(r, "session")
		require.NoError(t, err)
		return found
	}
	require.True(t, find(ended).IsNew)
	require.Equal(t, map[any]any{"message": "goodbye"}, find(session.ID).Values)
}

// panickingValue is a value of a session whose encoding fails with an error that panics.
type panickingValue struct{}

func (panickingValue) GobEncode() ([]byte, error) { return nil, sealtest.PanickingError{Cause: io.EOF} }
func (*panickingValue) GobDecode([]byte) error    { return nil }

// The value of a panic in the error of a value's encoding is not shown.
func TestEncodingWithAnErrorThatPanics(t *testing.T) {
	t.Parallel()
	c, _ := open(t, redistest.Start(t))
	gob.Register(panickingValue{})
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
	session, err := c.New(r, "session")
	require.NoError(t, err)
	session.Values["user"] = panickingValue{}
	err = c.Save(r, httptest.NewRecorder(), session)
	require.ErrorContains(t, err, "encode the session")
	require.NotContains(t, err.Error(), sealtest.PanicSecret)
}
