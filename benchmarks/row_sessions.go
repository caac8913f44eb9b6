package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/alexedwards/scs/goredisstore"
	"github.com/redis/go-redis/v9"

	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/middleware/sessions"
	"github.com/sealcache/sealcache/stores/redisstore"
)

// sessionBytes is the length of a measured session.
const sessionBytes = 512

// sessionStore is scs.CtxStore as far as it is measured.
type sessionStore interface {
	FindCtx(ctx context.Context, token string) (encoded []byte, found bool, err error)
	CommitCtx(ctx context.Context, token string, encoded []byte, expiry time.Time) error
}

// sessionsRow compares Find and Commit of a sealed session with those of scs's own goredisstore, over one client. They
// run one after the other, as in a request.
func sessionsRow(ctx context.Context, b *bench) {
	k := b.keys(ctx)
	_, client := b.redis(ctx, 0)
	plain := goredisstore.New(client)
	bare := newSessions(ctx, b, client, k)
	idle := newSessions(ctx, b, client, k, sessions.WithIdleTimeout(time.Hour))
	session := payload(sessionBytes)
	for _, clients := range []int{8, 1} {
		for _, c := range []struct {
			name   string
			sealed sessionStore
			budget *Budget
		}{
			{"find and commit", bare, atLeast(0.9)},
			{"the same, idle timeout", idle, nil},
		} {
			name := fmt.Sprintf("%s, %d clients", c.name, clients)
			if clients == 1 {
				name = c.name + ", 1 client"
			}
			if !b.wants(name) {
				continue
			}
			p := b.plan(61, 75*time.Millisecond) // the budget is close: 21 rounds differ by 2 % from run to run
			p.workers, p.latencies = clients, true
			samples := b.interleave(ctx, p, requests("sealed", c.sealed, session), requests("plain_", plain, session))
			compare(b, name, "sealed / scs's goredisstore", samples[0], samples[1], c.budget)
		}
	}
}

func newSessions(ctx context.Context, b *bench, client *redis.Client, k *keys, opts ...sessions.Option) *sessions.Store {
	backing, err := redisstore.New(client)
	b.Check(err)
	sealed, err := middleware.New(backing, k.envelope, middleware.WithNamespace("sessions"), middleware.WithOneWayKeys(b.names(ctx, k)))
	b.Check(err)
	s, err := sessions.New(sealed, opts...) //nolint:contextcheck // it takes none
	b.Check(err)
	return s
}

// requests returns a side that finds a session and commits it. Each worker has a separate session.
func requests(name string, s sessionStore, session []byte) side {
	return side{name: name, do: func(ctx context.Context, worker, _ int) error {
		token := fmt.Sprintf("%s:%036d", name, worker) // as long as a token of scs
		found, ok, err := s.FindCtx(ctx, token)
		if err != nil {
			return err
		}
		if ok && !bytes.Equal(found, session) {
			return errors.New("the store returned another session than the one that was committed")
		}
		return s.CommitCtx(ctx, token, session, time.Now().Add(time.Hour))
	}}
}
