//go:build unix

package hcvault

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/vault/api"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/internal/abandon"
)

// fileLogins returns URIs whose logins read a file. Each has its own key, as tenants have.
func fileLogins(path string) []string {
	const uri = "hcvault://127.0.0.1:1/transit/keys/"
	return []string{
		uri + "a?token-file=" + path,
		uri + "b?auth=approle&role-id=r&secret-id-file=" + path,
		uri + "c?auth=kubernetes&role=r&jwt-file=" + path,
	}
}

// The file of a login may be a named pipe without a writer. The login must fail then, and not wait for one.
func TestFileOfALoginIsANamedPipe(t *testing.T) {
	t.Parallel()
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, uri := range fileLogins(pipe) {
		opened := make(chan error, 1)
		go func() {
			_, err := Opener{}.OpenKEK(t.Context(), uri)
			opened <- err
		}()
		select {
		case err := <-opened:
			if !errors.Is(err, aead.ErrKeyServiceUnavailable) || !strings.Contains(err.Error(), "the named pipe is empty") {
				t.Errorf("%s: got the error %v", uri, err)
			}
		case <-time.After(time.Minute):
			t.Fatalf("%s: the call waits for a writer", uri)
		}
	}
}

// The readings of one file are bounded over all KEKs, those that were abandoned included. Otherwise each attempt to open a KEK
// leaves one, and each keeps a thread.
func TestReadingsOfLoginsAreBounded(t *testing.T) {
	t.Parallel()
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	writer, err := os.OpenFile(pipe, os.O_RDWR, 0) // it writes nothing, so readings hang
	if err != nil {
		t.Fatal(err)
	}
	var hung sync.WaitGroup
	defer hung.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	defer writer.Close()
	for range 4 {
		hung.Go(func() { _, _ = aead.FileSource(pipe).Load(ctx) })
	}
	for _, uri := range fileLogins(pipe) {
		for attempt := 0; ; attempt++ {
			short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
			_, err := Opener{}.OpenKEK(short, uri)
			cancel()
			if err != nil && strings.Contains(err.Error(), "too many file reads") && errors.Is(err, context.DeadlineExceeded) {
				break
			}
			if attempt == 1500 { // the four may begin late
				t.Fatalf("%s: got the error %v", uri, err)
			}
		}
	}
}

// Closing a session does not wait for a login that reads a file on a mount that hangs.
func TestCloseDuringAHungLogin(t *testing.T) {
	t.Parallel()
	client, err := api.NewClient(api.DefaultConfig())
	if err != nil {
		t.Fatal(err)
	}
	hang, again := make(chan struct{}), make(chan struct{})
	first := true
	s, err := startSession(t.Context(), client, login{repeatable: true, get: func(context.Context) (*api.Secret, error) {
		if first {
			first = false
			return &api.Secret{Auth: &api.SecretAuth{ClientToken: "t", LeaseDuration: 1}}, nil
		}
		close(again)
		<-hang
		return nil, errors.New("too late")
	}}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer close(hang)
	<-again
	closed := make(chan struct{})
	go func() {
		s.close()
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(time.Minute):
		t.Fatal("close waits for the login")
	}
}

// A login that hangs in the background is logged, and other logins get their turn.
func TestHungLoginInTheBackground(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client, err := api.NewClient(api.DefaultConfig())
		if err != nil {
			t.Fatal(err)
		}
		hang := make(chan struct{})
		var log bytes.Buffer
		s := &session{
			client: client, log: slog.New(slog.NewTextHandler(&log, nil)),
			turn: make(chan struct{}, 1), busy: make(chan struct{}, 1), fresh: make(chan *api.Secret, 1),
			login: login{repeatable: true, get: func(context.Context) (*api.Secret, error) {
				<-hang
				return nil, errors.New("too late")
			}},
		}
		s.done, s.cancel = context.WithCancel(t.Context())
		s.wait.Go(func() { s.loginUntilDone(client.Token()) })
		time.Sleep(loginTimeout + abandon.Grace + minRetry/2)
		synctest.Wait()
		if len(s.turn) != 0 {
			t.Error("the login still has the turn")
		}
		s.cancel()
		s.wait.Wait()
		close(hang)
		if !strings.Contains(log.String(), "cannot log in to Vault") {
			t.Errorf("logged: %s", log.String())
		}
	})
}

// One login is under way at a time, those that were abandoned included.
func TestAbandonedLoginsAreBounded(t *testing.T) {
	t.Parallel()
	hang, busy, calls := make(chan struct{}), make(chan struct{}, 1), make(chan struct{}, 10)
	l := login{get: func(context.Context) (*api.Secret, error) {
		calls <- struct{}{}
		<-hang
		panic("secret")
	}}
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		if _, err := l.run(ctx, busy); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got the error %v", err)
		}
		cancel()
	}
	if len(calls) != 1 {
		t.Errorf("%d calls", len(calls))
	}
	close(hang)
	if _, err := l.run(t.Context(), busy); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("after a panic: %v", err)
	}
}
