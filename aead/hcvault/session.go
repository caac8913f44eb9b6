package hcvault

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/hashicorp/vault/api"
)

const (
	// loginPause is the shortest time between two logins because Vault refused the token. A missing capability looks the same
	// as a token that has ended.
	loginPause = 10 * time.Second
	// The pause between failed logins doubles from minRetry to maxRetry.
	minRetry = time.Second
	maxRetry = 30 * time.Second
	// loginTimeout bounds one of these logins.
	loginTimeout = time.Minute
)

// session keeps a client logged in.
type session struct {
	client *api.Client
	login  login
	log    *slog.Logger

	done   context.Context
	cancel context.CancelFunc
	wait   sync.WaitGroup

	turn     chan struct{}    // taken by the login that is under way
	busy     chan struct{}    // see login.run
	fresh    chan *api.Secret // a token that replaceToken got
	replaced time.Time        // when replaceToken last logged in; its owner holds turn
}

// startSession logs in. If the token has a lifetime, a goroutine renews it until close.
func startSession(ctx context.Context, client *api.Client, l login, log *slog.Logger) (*session, error) {
	s := &session{
		client: client, login: l, log: log, turn: make(chan struct{}, 1), busy: make(chan struct{}, 1), fresh: make(chan *api.Secret, 1),
	}
	secret, err := l.run(ctx, s.busy)
	if err != nil {
		return nil, err
	}
	s.done, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	s.wait.Go(func() { s.run(secret) }) //nolint:contextcheck // the session outlives the call
	return s, nil
}

// close ends the goroutine. A renewal that is under way ends with its own timeout.
func (s *session) close() {
	s.cancel()
	s.wait.Wait()
}

// run renews the token, and replaces it when it cannot be renewed any more.
func (s *session) run(secret *api.Secret) {
	for {
		begin := time.Now()
		next, ended := s.watch(secret)
		switch {
		case s.done.Err() != nil:
			return
		case !ended:
			secret = next
		case !s.login.repeatable:
			s.log.ErrorContext(s.done, "sealcache: the Vault token expires soon and cannot be renewed (set a new VAULT_TOKEN and restart the process)")
			<-s.done.Done()
			return
		default:
			select { // a renewal may have left no time
			case <-time.After(minRetry - time.Since(begin)):
			case <-s.done.Done():
			}
			secret = s.loginUntilDone(secret.Auth.ClientToken)
		}
	}
}

// watch renews a token until it is replaced, or until it is about to end.
func (s *session) watch(secret *api.Secret) (next *api.Secret, ended bool) {
	if secret == nil || secret.Auth == nil || secret.Auth.LeaseDuration <= 0 { // it does not end
		select {
		case next = <-s.fresh:
		case <-s.done.Done():
		}
		return next, false
	}
	watcher, err := s.client.NewLifetimeWatcher(&api.LifetimeWatcherInput{Secret: secret})
	if err != nil {
		return nil, true // only without a secret
	}
	go watcher.Start()
	defer watcher.Stop()
	select {
	case next = <-s.fresh:
		return next, false
	case <-s.done.Done():
		return nil, false
	case <-watcher.DoneCh(): //nolint:errcheck // its end is what counts
		return nil, true
	}
}

var errSameToken = errors.New("the token file still holds the token that expires soon (write a new token into the file)")

// loginUntilDone logs in again, and tries until it has another token than the old one.
func (s *session) loginUntilDone(old string) *api.Secret {
	for pause := minRetry; ; pause = min(2*pause, maxRetry) {
		select {
		case s.turn <- struct{}{}:
		case <-s.done.Done():
			return nil
		}
		ctx, cancel := context.WithTimeout(s.done, loginTimeout) // its file may be on a mount that hangs
		secret, err := s.login.run(ctx, s.busy)
		cancel()
		if err == nil && s.client.Token() == old {
			err = errSameToken
		}
		<-s.turn
		if err == nil {
			return secret
		}
		if s.done.Err() != nil {
			return nil
		}
		s.log.WarnContext(s.done, "sealcache: cannot log in to Vault; the login is tried again", "error", err)
		timer := time.NewTimer(pause)
		select {
		case secret := <-s.fresh:
			timer.Stop()
			return secret
		case <-s.done.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

// replaceToken logs in after Vault refused a token, and reports whether the client has another one now. Concurrent callers
// share one login.
func (s *session) replaceToken(ctx context.Context, used string) bool {
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return false
	}
	defer func() { <-s.turn }()
	if s.client.Token() != used {
		return true
	}
	if !s.login.repeatable || !s.replaced.IsZero() && time.Since(s.replaced) < loginPause {
		return false
	}
	secret, err := s.login.run(ctx, s.busy)
	if ctx.Err() == nil { // a login that its caller ended says nothing
		s.replaced = time.Now()
	}
	if err != nil {
		s.log.WarnContext(ctx, "sealcache: Vault refuses the token, and a new login fails; later calls try again", "error", err)
		return false
	}
	if s.client.Token() == used {
		return false
	}
	select {
	case <-s.fresh: // an older one that run has not taken
	default:
	}
	s.fresh <- secret
	return true
}
