package sessions_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/prf"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/middleware/migrate"
	"github.com/sealcache/sealcache/middleware/sessions"
)

// process is one of several processes that serve the same sessions. Restarting it replaces its handler.
type process struct {
	handler atomic.Pointer[http.Handler]
	*httptest.Server
}

func newProcess(t *testing.T) *process {
	t.Helper()
	p := new(process)
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { (*p.handler.Load()).ServeHTTP(w, r) }))
	t.Cleanup(p.Close)
	return p
}

// fleet is two processes under load.
type fleet struct {
	t         *testing.T
	server    *redistest.Server
	processes []*process
	stores    []*sessions.Store
	visits    [8]atomic.Int64 // completed rounds of each browser
	browsing  bool
	stop      atomic.Bool
	failed    atomic.Pointer[error]
	all       sync.WaitGroup
}

// start restarts each process, one after the other, with its keys. Requests are served all the time.
func (f *fleet) start(keys func() tink.AEADWithContext, names *prf.Set) {
	f.t.Helper()
	for i, p := range f.processes {
		sealed, err := middleware.New(onRedis(f.t, f.server), keys(), middleware.WithNamespace("sessions"), middleware.WithOneWayKeys(names))
		require.NoError(f.t, err)
		f.stores[i] = open(f.t, sealed, sessions.WithUser(userOf), sessions.WithIdleTimeout(time.Hour))
		handler := newHandler(f.stores[i])
		p.handler.Store(&handler)
		f.everyoneReturns()
	}
}

// browse begins with the browsers. Each uses the processes in turn, and each page must be what it should be.
func (f *fleet) browse() {
	f.browsing = true
	for i := range f.visits {
		f.all.Go(func() {
			jar, _ := cookiejar.New(nil) // never fails without options
			client := &http.Client{Jar: jar, Transport: f.processes[0].Client().Transport}
			user := fmt.Sprintf("user %d", i)
			for round := 0; !f.stop.Load(); round++ {
				web := f.processes[round%len(f.processes)].URL
				pages := []string{"/visit", "/who"}
				if round%16 == 0 {
					pages = []string{fmt.Sprintf("/login?user=user+%d", i), "/who"}
				}
				for _, path := range pages {
					if err := fetch(client, web+path, path == "/who", user); err != nil {
						f.failed.CompareAndSwap(nil, &err)
						return
					}
				}
				f.visits[i].Add(1)
			}
		})
	}
}

func fetch(client *http.Client, url string, check bool, want string) error {
	r, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	reply, err := client.Do(r)
	if err != nil {
		return err
	}
	defer reply.Body.Close()
	body, err := io.ReadAll(reply.Body)
	switch {
	case err != nil:
		return err
	case reply.StatusCode != http.StatusOK:
		return fmt.Errorf("%s: status %d: %s", url, reply.StatusCode, body)
	case check && string(body) != want:
		return fmt.Errorf("%s: the session of %q is that of %q", url, want, body)
	}
	return nil
}

// everyoneReturns waits until each browser has used each process twice.
func (f *fleet) everyoneReturns() {
	f.t.Helper()
	if !f.browsing {
		return
	}
	for i := range f.visits {
		before := f.visits[i].Load()
		sealtest.Eventually(f.t, func() bool {
			return f.failed.Load() != nil || f.visits[i].Load() >= before+4 || f.visits[i].Load() == 0
		})
	}
	if err := f.failed.Load(); err != nil {
		require.NoError(f.t, *err)
	}
}

// Keys are added, promoted and disabled while two processes serve sessions. No request fails, and no user is logged out.
func TestKeysRotateUnderLoad(t *testing.T) {
	t.Parallel()
	f := &fleet{t: t, server: redistest.Start(t), processes: []*process{newProcess(t), newProcess(t)}, stores: make([]*sessions.Store, 2)}
	values, tokens := keyset.NewManager(), keyset.NewManager()
	add := func(m *keyset.Manager, primary bool, template func(*keyset.Manager) (uint32, error)) uint32 {
		id, err := template(m)
		require.NoError(t, err)
		if primary {
			require.NoError(t, m.SetPrimary(id))
		}
		return id
	}
	valueKey := func(m *keyset.Manager) (uint32, error) { return m.Add(tinkaead.AES256GCMKeyTemplate()) }
	tokenKey := func(m *keyset.Manager) (uint32, error) { return m.Add(prf.HMACSHA256PRFKeyTemplate()) }
	keys := func() tink.AEADWithContext {
		h, err := values.Handle()
		require.NoError(t, err)
		return sealtest.KeyringOf(t, h)
	}
	names := func() *prf.Set {
		h, err := tokens.Handle()
		require.NoError(t, err)
		set, err := prf.NewPRFSet(h)
		require.NoError(t, err)
		return set
	}
	oldValue, oldToken := add(values, true, valueKey), add(tokens, true, tokenKey)
	f.start(keys, names())
	f.browse()
	defer f.all.Wait()
	defer f.stop.Store(true)
	for range 2 {
		newValue, newToken := add(values, false, valueKey), add(tokens, false, tokenKey)
		f.start(keys, names()) // both keys are known everywhere
		require.NoError(t, values.SetPrimary(newValue))
		require.NoError(t, tokens.SetPrimary(newToken))
		f.start(keys, names()) // both are primary everywhere
		f.everyoneReturns()    // each session was committed, and so moved to the new name
		report, err := migrate.Run(t.Context(), f.server.Client(t), migrate.Config{
			Operation: migrate.Reseal, From: migrate.Space{Namespace: "sessions"}, Keys: keys(), AllowUnproven: true,
		})
		require.NoError(t, err)
		require.True(t, report.Done(), "%+v", report)
		require.NoError(t, values.Disable(oldValue))
		require.NoError(t, tokens.Disable(oldToken))
		f.start(keys, names())
		f.everyoneReturns()
		oldValue, oldToken = newValue, newToken
	}
	f.stop.Store(true)
	f.all.Wait()
	if err := f.failed.Load(); err != nil {
		require.NoError(t, *err)
	}
	for i := range f.visits {
		require.Positive(t, f.visits[i].Load())
		require.NoError(t, f.stores[0].EndAll(t.Context(), fmt.Sprintf("user %d", i)))
	}
	for _, name := range f.server.Client(t).Keys(t.Context(), "sessions:*").Val() {
		require.Equal(t, "sessions:sealcache.key-check", name, "no session is left")
	}
}
