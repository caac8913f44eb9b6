package frameworks_test

import (
	"net/http"
	"testing"

	gorilla "github.com/gorilla/sessions"
	"github.com/labstack/echo-contrib/session"
	"github.com/labstack/echo/v4"

	"github.com/sealcache/sealcache/middleware/sessions"
	"github.com/sealcache/sealcache/middleware/sessions/gorillasessions"
)

// echoSite is the application in echo.
func echoSite(t *testing.T, cookies *gorillasessions.Store, store *sessions.Store) http.Handler {
	t.Helper()
	e := echo.New()
	e.Use(session.Middleware(cookies))
	handle := func(path string, f func(c echo.Context, s *gorilla.Session) error) {
		e.GET(path, func(c echo.Context) error {
			s, err := session.Get("session", c)
			if err != nil {
				return err
			}
			return f(c, s)
		})
	}
	handle("/visit", func(c echo.Context, s *gorilla.Session) error {
		s.Values["visited"] = true
		return s.Save(c.Request(), c.Response())
	})
	handle("/login", func(c echo.Context, s *gorilla.Session) error {
		if err := cookies.Renew(c.Request().Context(), s); err != nil {
			return err
		}
		s.Values["user"] = c.QueryParam("user")
		return s.Save(c.Request(), c.Response())
	})
	handle("/user", func(c echo.Context, s *gorilla.Session) error {
		user, _ := s.Values["user"].(string)
		return c.String(http.StatusOK, user)
	})
	handle("/logout", func(c echo.Context, s *gorilla.Session) error {
		s.Options.MaxAge = -1
		return s.Save(c.Request(), c.Response())
	})
	handle("/everywhere", func(c echo.Context, s *gorilla.Session) error {
		user, _ := s.Values["user"].(string)
		return store.EndAll(c.Request().Context(), user)
	})
	return e
}
