// Command sessions is a small web application with login, logout and "log out everywhere". Its sessions are sealed
// (encrypted):
//
//	go run ./examples/sessions
//
// Open http://127.0.0.1:8080 in two browsers. To use another address, set the environment variable LISTEN.
//
// By default, the sessions are in memory. To keep them in Redis, set the environment variable STORE to the URL of a Redis
// server, such as redis://localhost:6379. Session tokens, user names and values are never in Redis as plaintext.
//
// The program keeps its keys only in memory, so all sessions end when it restarts. A real service opens its keys with
// aead.OpenKEK and aead.OpenPRF.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"time"

	"github.com/alexedwards/scs/v2"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/prf"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/middleware/sessions"
	"github.com/sealcache/sealcache/stores"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	store, listen := cmp.Or(os.Getenv("STORE"), "memory://"), cmp.Or(os.Getenv("LISTEN"), "127.0.0.1:8080")
	if err := run(ctx, store, listen, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "sessions:", err)
		os.Exit(1)
	}
}

// run serves the application until ctx ends.
func run(ctx context.Context, storeURL, listen string, out io.Writer) error {
	backing, err := stores.Open(ctx, storeURL)
	if err != nil {
		return err
	}
	keys, names, err := newKeys(ctx)
	if err != nil {
		return err
	}
	defer keys.Close()
	sealed, err := middleware.New(backing, keys, middleware.WithNamespace("sessions"), middleware.WithOneWayKeys(names))
	if err != nil {
		return err
	}
	defer sealed.Close()
	store, err := sessions.New(sealed, sessions.WithUser(userOf), sessions.WithIdleTimeout(30*time.Minute))
	if err != nil {
		return err
	}
	return serve(ctx, newApplication(store), listen, out)
}

// newKeys returns keys that end with the program: an Envelope for values, and a PRF for the names of tokens and users.
func newKeys(ctx context.Context) (*aead.Envelope, *prf.Set, error) {
	handle, err := keyset.NewHandle(tinkaead.AES256GCMKeyTemplate())
	if err != nil {
		return nil, nil, err
	}
	kek, err := aead.NewKeyring(handle)
	if err != nil {
		return nil, nil, err
	}
	keys, err := aead.NewEnvelope(ctx, kek)
	if err != nil {
		return nil, nil, err
	}
	if handle, err = keyset.NewHandle(prf.HMACSHA256PRFKeyTemplate()); err != nil {
		return nil, nil, err
	}
	names, err := prf.NewPRFSet(handle)
	return keys, names, err
}

// userOf returns the user of a session for "log out everywhere". It must not call the session manager.
func userOf(_ context.Context, encoded []byte) (string, error) {
	_, values, err := scs.GobCodec{}.Decode(encoded)
	user, _ := values["user"].(string)
	return user, err
}

func serve(ctx context.Context, handler http.Handler, listen string, out io.Writer) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", listen)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "open http://%s (Ctrl-C ends the program)\n", listener.Addr())
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second}
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		return err
	}
	if err := <-done; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
