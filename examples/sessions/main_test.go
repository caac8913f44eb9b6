package main

import (
	"context"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/sealcache/sealcache/internal/leaktest"
	"github.com/sealcache/sealcache/internal/redistest"
)

func TestMain(m *testing.M) {
	// scs.New starts a goroutine that never ends.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/alexedwards/scs/v2/memstore.(*MemStore).startCleanup"))
}

// start runs the program and returns its address.
func start(t *testing.T, store string) string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	read, write := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := run(ctx, store, "127.0.0.1:0", write)
		_ = write.CloseWithError(io.EOF)
		done <- err
	}()
	line := make([]byte, 200)
	n, err := read.Read(line)
	if err != nil {
		require.NoError(t, <-done)
	}
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	address, _, found := strings.Cut(strings.TrimPrefix(string(line[:n]), "open "), " ")
	require.True(t, found)
	return address
}

func browser(t *testing.T) *http.Client {
	t.Helper()
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Jar: jar, Transport: transport}
}

func body(t *testing.T, r *http.Response, err error) string {
	t.Helper()
	require.NoError(t, err)
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, r.StatusCode)
	return string(b)
}

func TestLogOutEverywhere(t *testing.T) {
	server := redistest.Start(t)
	for _, store := range []string{"memory://", server.URL()} {
		secrets := new(leaktest.Set)
		user := secrets.Text("user")
		address := start(t, store)
		phone, laptop := browser(t), browser(t)
		for _, b := range []*http.Client{phone, laptop} {
			r, err := b.PostForm(address+"/login", url.Values{"user": {user}})
			require.Contains(t, body(t, r, err), user)
		}
		u, err := url.Parse(address)
		require.NoError(t, err)
		secrets.AddText("token", phone.Jar.Cookies(u)[0].Value)
		client := server.Client(t)
		require.NoError(t, client.Save(t.Context()).Err())
		for name, content := range server.DumpFiles(t) {
			require.Empty(t, secrets.Find(content), name)
		}
		if store != "memory://" {
			require.NotZero(t, client.DBSize(t.Context()).Val(), "the sessions lie there")
		}
		r, err := laptop.PostForm(address+"/logout-everywhere", nil)
		require.NotContains(t, body(t, r, err), user)
		r, err = phone.Get(address)
		require.NotContains(t, body(t, r, err), user)
	}
}

func TestBadStore(t *testing.T) {
	require.Error(t, run(t.Context(), "nothing://", "127.0.0.1:0", io.Discard))
}
