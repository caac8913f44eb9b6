package gorillasessions

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/gob"
	"errors"
	"fmt"
	"math"
	"net/http"
	"time"

	"github.com/gorilla/sessions"

	"github.com/sealcache/sealcache/internal/errtext"
	"github.com/sealcache/sealcache/internal/options"
	"github.com/sealcache/sealcache/middleware"
	sealed "github.com/sealcache/sealcache/middleware/sessions"
)

// defaultMaxAge is how long a session lives if its Options have MaxAge 0, which makes
// a cookie that ends with the browser.
const defaultMaxAge = 24 * time.Hour

// maxMaxAge is the longest lifetime in seconds that a time.Duration holds: 292 years.
const maxMaxAge = int64(math.MaxInt64 / time.Second)

// tokenBytes is the length of a token before it is encoded.
const tokenBytes = 32

// Store implements Store of gorilla/sessions. It is safe for concurrent use.
type Store struct {
	sessions *sealed.Store
	options  sessions.Options
}

var _ sessions.Store = (*Store)(nil)

// An Option is a setting of New.
type Option func(*config) error

type config struct{ options sessions.Options }

// WithOptions sets the attributes of cookies. MaxAge in seconds is also the lifetime
// of a session on the server: its absolute end. The default is path "/", 30 days,
// HttpOnly, Secure and SameSite Lax. With MaxAge 0 the cookie ends with
// the browser, and the session after 24 hours. MaxAge is at most 9223372036.
func WithOptions(o sessions.Options) Option {
	return func(c *config) error {
		if err := checkMaxAge(&o); err != nil {
			return fmt.Errorf("WithOptions: %w", err)
		}
		c.options = o
		return nil
	}
}

// checkMaxAge refuses a lifetime that no time.Duration holds. It would become another one, or a time in the past.
func checkMaxAge(o *sessions.Options) error {
	if int64(o.MaxAge) > maxMaxAge {
		return fmt.Errorf("MaxAge is over %d (give seconds, not a time.Duration)", maxMaxAge)
	}
	return nil
}

// New returns a Store over sessions of package middleware/sessions.
func New(s *sealed.Store, opts ...Option) (*Store, error) {
	if s == nil {
		return nil, errors.New("gorillasessions: New: the Store of package middleware/sessions is nil")
	}
	c := config{options: sessions.Options{
		Path: "/", MaxAge: 30 * 24 * 60 * 60, HttpOnly: true, Secure: true, SameSite: http.SameSiteLaxMode,
	}}
	if err := options.Apply("", opts, func(o Option) error { return o(&c) }); err != nil {
		return nil, fmt.Errorf("gorillasessions: New: %w", err)
	}
	return &Store{sessions: s, options: c.options}, nil
}

// Options returns the attributes of cookies of new sessions.
func (c *Store) Options() sessions.Options { return c.options }

// Get returns the session of a request, which is the same one within a request.
func (c *Store) Get(r *http.Request, name string) (*sessions.Session, error) {
	return sessions.GetRegistry(r).Get(c, name)
}

// New returns the session of the request's cookie, or a new session. A cookie that is
// altered, too long, unknown or ended gives a new session and no error. So does a cookie
// with the token of a session of another name. The error
// comes from the store, from the key service, or from gob, if the type of a stored value
// is not registered; there is a new session then too.
func (c *Store) New(r *http.Request, name string) (*sessions.Session, error) {
	session := sessions.NewSession(c, name)
	options := c.options
	session.Options = &options
	session.IsNew = true
	cookie, err := r.Cookie(name)
	if err != nil || !wellFormed(cookie.Value) {
		return session, nil //nolint:nilerr // no cookie
	}
	encoded, found, err := c.sessions.FindCtx(r.Context(), cookie.Value)
	if err != nil || !found {
		return session, err
	}
	stored, values, err := decode(encoded)
	if err != nil || stored != name { // the token belongs to another session
		return session, err
	}
	session.ID, session.Values, session.IsNew = cookie.Value, values, false
	return session, nil
}

// ErrEnded means that a session ended while a request used it: another request logged
// the user out, or its time was over. Save has stored nothing and set no cookie.
var ErrEnded = errors.New("gorillasessions: save: the session ended after the request read it (start a new session)")

// Save stores a session and sets its cookie. It gives a new session its token. If
// MaxAge is negative, Save deletes the session and its cookie. Another Save in the same
// request begins a session with a new token and with the values that are still in
// session.Values. A session that ended since the request read it is ErrEnded: a logout
// is final. Over a backing store without middleware's SetIfExists, Save writes such a
// session again.
func (c *Store) Save(r *http.Request, w http.ResponseWriter, session *sessions.Session) error {
	if session.Options.MaxAge < 0 {
		if err := c.sessions.DeleteCtx(r.Context(), session.ID); err != nil {
			return err
		}
		session.ID = ""
		http.SetCookie(w, sessions.NewCookie(session.Name(), "", session.Options))
		return nil
	}
	if err := checkMaxAge(session.Options); err != nil {
		return fmt.Errorf("gorillasessions: save: %w", err)
	}
	encoded, err := encode(session.Name(), session.Values)
	if err != nil {
		return err
	}
	life := time.Duration(session.Options.MaxAge) * time.Second
	if life == 0 {
		life = defaultMaxAge
	}
	token, err := c.store(r.Context(), session.ID, encoded, time.Now().Add(life))
	if err != nil {
		return err
	}
	session.ID = token
	http.SetCookie(w, sessions.NewCookie(session.Name(), token, session.Options))
	return nil
}

// store stores a session and returns its token. A session without a token is new.
func (c *Store) store(ctx context.Context, token string, encoded []byte, end time.Time) (string, error) {
	if token != "" {
		replaced, err := c.sessions.Replace(ctx, token, encoded, end)
		switch {
		case errors.Is(err, middleware.ErrUnsupported): // the backing store can only overwrite
		case err != nil:
			return "", err
		case !replaced:
			return "", ErrEnded
		default:
			return token, nil
		}
	} else {
		token = newToken()
	}
	return token, c.sessions.CommitCtx(ctx, token, encoded, end)
}

// Renew ends the stored session, so that Save gives its values a new token. Call it
// before Save when a user logs in or gains rights. It does so, too, if another request
// has ended the session in the meantime. Without a login, the values of a session that
// was logged out would live on. So call Renew only where the user proves who they are.
func (c *Store) Renew(ctx context.Context, session *sessions.Session) error {
	if err := c.sessions.DeleteCtx(ctx, session.ID); err != nil {
		return err
	}
	session.ID = ""
	return nil
}

// UserIn returns a function for WithUser of package middleware/sessions. The user is
// the string under key in a session's values. A session without it has no user.
func UserIn(key any) func(context.Context, []byte) (string, error) {
	return func(_ context.Context, encoded []byte) (string, error) {
		_, values, err := decode(encoded)
		user, _ := values[key].(string)
		return user, err
	}
}

func newToken() string {
	var b [tokenBytes]byte
	_, _ = rand.Read(b[:]) // never fails: see package crypto/rand
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// wellFormed reports whether a cookie's value may be a token of newToken.
func wellFormed(token string) bool {
	b, err := base64.RawURLEncoding.Strict().DecodeString(token)
	return err == nil && len(b) == tokenBytes
}

// encode returns the name and the values of a session, in one gob stream.
func encode(name string, values map[any]any) ([]byte, error) {
	var b bytes.Buffer
	e := gob.NewEncoder(&b)
	if err := errors.Join(e.Encode(name), e.Encode(values)); err != nil {
		return nil, fmt.Errorf("gorillasessions: cannot encode the session (register the types of its values with gob.Register): %w", errtext.Guard(err))
	}
	return b.Bytes(), nil
}

func decode(encoded []byte) (name string, values map[any]any, err error) {
	d := gob.NewDecoder(bytes.NewReader(encoded))
	if err = d.Decode(&name); err == nil {
		err = d.Decode(&values)
	}
	if err != nil {
		return "", nil, fmt.Errorf("gorillasessions: cannot decode the session (register its types with gob.Register, or delete it): %w", errtext.Guard(err))
	}
	return name, values, nil
}
