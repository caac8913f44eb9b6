package frameworks_test

import (
	"io"
	"net/http"
	"testing"

	ginsessions "github.com/gin-contrib/sessions"
	"github.com/gin-gonic/gin"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/middleware/sessions"
	"github.com/sealcache/sealcache/middleware/sessions/gorillasessions"
)

// ginStore is the Store of gin-contrib/sessions. The attributes of cookies are those of gorillasessions.WithOptions.
type ginStore struct{ *gorillasessions.Store }

func (ginStore) Options(ginsessions.Options) {}

// ginSite is the application in gin.
func ginSite(t *testing.T, cookies *gorillasessions.Store, store *sessions.Store) http.Handler {
	t.Helper()
	engine := gin.New()
	engine.Use(ginsessions.Sessions("session", ginStore{cookies}))
	save := func(c *gin.Context) {
		if err := ginsessions.Default(c).Save(); err != nil {
			c.Status(http.StatusInternalServerError)
		}
	}
	engine.GET("/visit", func(c *gin.Context) {
		ginsessions.Default(c).Set("visited", true)
		save(c)
	})
	engine.GET("/login", func(c *gin.Context) {
		session, err := cookies.Get(c.Request, "session") // the same session as gin's
		if err == nil {
			err = cookies.Renew(c, session)
		}
		if err != nil {
			c.Status(http.StatusInternalServerError)
			return
		}
		ginsessions.Default(c).Set("user", c.Query("user"))
		save(c)
	})
	engine.GET("/user", func(c *gin.Context) {
		user, _ := ginsessions.Default(c).Get("user").(string)
		_, err := io.WriteString(c.Writer, user)
		require.NoError(t, err)
	})
	engine.GET("/logout", func(c *gin.Context) {
		ginsessions.Default(c).Options(ginsessions.Options{Path: "/", MaxAge: -1})
		save(c)
	})
	engine.GET("/everywhere", func(c *gin.Context) {
		user, _ := ginsessions.Default(c).Get("user").(string)
		if err := store.EndAll(c, user); err != nil {
			c.Status(http.StatusInternalServerError)
		}
	})
	return engine
}
