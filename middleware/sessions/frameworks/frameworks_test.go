package frameworks_test

import (
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	gorilla "github.com/gorilla/sessions"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/sealcache/sealcache/internal/leaktest"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/middleware/sessions"
	"github.com/sealcache/sealcache/middleware/sessions/gorillasessions"
	"github.com/sealcache/sealcache/stores/redisstore"
)

// logs are the lines of every logger of the process: gin-contrib/sessions logs to the default one.
var logs sealtest.Logs

func TestMain(m *testing.M) {
	gin.SetMode(gin.ReleaseMode)
	gin.DefaultWriter, gin.DefaultErrorWriter = &logs, &logs
	slog.SetDefault(logs.Logger())
	log.SetOutput(io.MultiWriter(&logs, os.Stderr))
	goleak.VerifyTestMain(m)
}

// frameworks are the applications by framework. All have the same pages.
var frameworks = map[string]func(*testing.T, *gorillasessions.Store, *sessions.Store) http.Handler{"gin": ginSite, "echo": echoSite}

// site is an application that runs.
type site struct {
	*httptest.Server
	redis *redistest.Server
}

func start(t *testing.T, framework string, life time.Duration) site {
	t.Helper()
	redis := redistest.StartWith(t, redistest.Options{AppendOnly: true})
	backing, err := redisstore.New(redis.Client(t))
	require.NoError(t, err)
	sealed, err := middleware.New(backing, sealtest.Keyring(t), middleware.WithNamespace("web"),
		middleware.WithOneWayKeys(sealtest.PRF(t, 1)), middleware.WithLogger(logs.Logger()))
	require.NoError(t, err)
	store, err := sessions.New(sealed, sessions.WithUser(gorillasessions.UserIn("user")), sessions.WithIdleTimeout(time.Hour))
	require.NoError(t, err)
	cookies, err := gorillasessions.New(store, gorillasessions.WithOptions(gorilla.Options{
		Path: "/", MaxAge: int(life.Seconds()), HttpOnly: true, SameSite: http.SameSiteLaxMode,
	}))
	require.NoError(t, err)
	server := httptest.NewServer(frameworks[framework](t, cookies, store))
	t.Cleanup(server.Close)
	return site{server, redis}
}

// get returns the body of a page, which must not be an error page. The jar may be nil; a cookie is sent as it is.
func (s site) get(t *testing.T, jar http.CookieJar, path, cookie string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+path, nil)
	require.NoError(t, err)
	if cookie != "" {
		r.Header["Cookie"] = []string{"session=" + cookie}
	}
	client := &http.Client{Jar: jar, Transport: s.Client().Transport}
	reply, err := client.Do(r)
	require.NoError(t, err)
	defer reply.Body.Close()
	body, err := io.ReadAll(reply.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, reply.StatusCode, "%s: %s", path, body)
	return string(body)
}

// token returns the session cookie of a browser, or "".
func (s site) token(t *testing.T, jar http.CookieJar) string {
	t.Helper()
	u, err := url.Parse(s.URL)
	require.NoError(t, err)
	for _, cookie := range jar.Cookies(u) {
		if cookie.Name == "session" {
			return cookie.Value
		}
	}
	return ""
}

func browser(t *testing.T) http.CookieJar {
	t.Helper()
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	return jar
}

// A login gives a new token. A logout ends the session for every copy of its cookie, and "log out everywhere" ends all. Redis
// and the logs see neither token nor user.
func TestSessions(t *testing.T) {
	t.Parallel()
	for framework := range frameworks {
		t.Run(framework, func(t *testing.T) {
			t.Parallel()
			s := start(t, framework, time.Hour)
			monitor := s.redis.Monitor(t)
			var secrets leaktest.Set
			user, other := secrets.Text("user"), secrets.Text("other user")
			login := func(jar http.CookieJar, user string) string {
				s.get(t, jar, "/login?user="+user, "")
				token := s.token(t, jar)
				require.Len(t, token, 43)
				secrets.AddText("token", token)
				return token
			}

			alice := browser(t)
			s.get(t, alice, "/visit", "")
			before := s.token(t, alice)
			require.NotEmpty(t, before)
			after := login(alice, user)
			require.NotEqual(t, before, after)
			require.Equal(t, user, s.get(t, alice, "/user", ""))
			require.Equal(t, user, s.get(t, nil, "/user", after))
			require.Empty(t, s.get(t, nil, "/user", before), "the token from before the login is worth nothing")

			for _, bad := range []string{
				"x", after + "A", after[1:], strings.ToUpper(after), strings.Repeat("A", 43), strings.Repeat("A", 40_000),
				"\xff\xfe", "%00", "a:b", "../../etc", "web:" + after, after + "; session=" + before,
			} {
				if strings.HasPrefix(bad, after+";") {
					require.Equal(t, user, s.get(t, nil, "/user", bad), "the first cookie counts")
					continue
				}
				require.Empty(t, s.get(t, nil, "/user", bad))
			}
			planted := browser(t)
			address, err := url.Parse(s.URL)
			require.NoError(t, err)
			fixed := strings.Repeat("A", 43)
			planted.SetCookies(address, []*http.Cookie{{Name: "session", Value: fixed, Path: "/"}})
			s.get(t, planted, "/visit", "")
			require.NotEqual(t, fixed, s.token(t, planted), "an unknown token is not adopted")

			s.get(t, alice, "/logout", "")
			require.Empty(t, s.token(t, alice), "the cookie is gone")
			require.Empty(t, s.get(t, nil, "/user", after))

			phone, laptop, bob := browser(t), browser(t), browser(t)
			login(phone, user)
			login(laptop, user)
			login(bob, other)
			s.get(t, laptop, "/everywhere", "")
			require.Empty(t, s.get(t, phone, "/user", ""))
			require.Empty(t, s.get(t, laptop, "/user", ""))
			require.Equal(t, other, s.get(t, bob, "/user", ""))

			require.Empty(t, secrets.Find(monitor.Bytes(t)))
			for name, content := range s.redis.DumpFiles(t) {
				require.NotEmpty(t, content, name)
				require.Empty(t, secrets.Find(content), name)
			}
			require.Empty(t, secrets.Find([]byte(logs.String())))
		})
	}
}

// A session ends at its absolute end, also for an attacker who restores a dump of it.
func TestSessionsEnd(t *testing.T) {
	t.Parallel()
	for framework := range frameworks {
		t.Run(framework, func(t *testing.T) {
			t.Parallel()
			for life := 2 * time.Second; !endsForGood(t, framework, life); life *= 2 { // it may end before a busy machine has read it
				require.Less(t, life, time.Minute)
			}
		})
	}
}

// endsForGood requires that a session ends after life. It returns false if it has ended before it could be read.
func endsForGood(t *testing.T, framework string, life time.Duration) bool {
	t.Helper()
	s := start(t, framework, life)
	jar := browser(t)
	s.get(t, jar, "/login?user=alice", "")
	token := s.token(t, jar)
	rdb := s.redis.Client(t)
	dumps := map[string]string{}
	for _, name := range rdb.Keys(t.Context(), "web:*").Val() {
		dump, err := rdb.Dump(t.Context(), name).Result()
		if err != nil {
			return false
		}
		dumps[name] = dump
		require.NoError(t, rdb.Persist(t.Context(), name).Err())
	}
	user := s.get(t, nil, "/user", token)
	if user == "" {
		return false
	}
	require.Equal(t, "alice", user)
	require.NotEmpty(t, dumps)
	sealtest.Eventually(t, func() bool { return s.get(t, nil, "/user", token) == "" })
	for name, dump := range dumps {
		require.NoError(t, rdb.RestoreReplace(t.Context(), name, 0, dump).Err())
	}
	require.Empty(t, s.get(t, nil, "/user", token))
	return true
}

// An outage of Redis is not a logout: the session is there again afterwards, and no log line has the token.
func TestOutage(t *testing.T) {
	t.Parallel()
	t.Cleanup(func() {
		require.NotEmpty(t, logs.String(), "gin logs requests; echo and the session store log nothing here")
	})
	for framework := range frameworks {
		t.Run(framework, func(t *testing.T) {
			t.Parallel()
			s := start(t, framework, time.Hour)
			jar := browser(t)
			s.get(t, jar, "/login?user=alice", "")
			token := s.token(t, jar)
			var secrets leaktest.Set
			secrets.AddText("token", token)
			require.NoError(t, s.redis.Kill())
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+"/user", nil)
			require.NoError(t, err)
			r.AddCookie(&http.Cookie{Name: "session", Value: token})
			reply, err := s.Client().Do(r)
			require.NoError(t, err)
			body, err := io.ReadAll(reply.Body)
			require.NoError(t, err)
			require.NoError(t, reply.Body.Close())
			require.NotEqual(t, "alice", string(body))
			require.NoError(t, s.redis.Restart())
			require.Equal(t, "alice", s.get(t, nil, "/user", token))
			require.Empty(t, secrets.Find([]byte(logs.String())))
		})
	}
}
