package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"sync/atomic"

	"github.com/redis/go-redis/v9"

	"github.com/sealcache/sealcache/internal/rediserr"
	"github.com/sealcache/sealcache/stores/redisstore"
)

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

// silenceRedis keeps go-redis from logging to the terminal, because errors show the same.
func silenceRedis() { redis.SetLogger(silent{}) }

// redisFlag is a flag with the URL of Redis.
type redisFlag struct{ name, url string }

func (r *redisFlag) declare(f *flags) {
	r.name = "redis"
	f.env(&r.url, r.name, "SEALCACHE_STORE", "`URL` of Redis: redis://, rediss://, redis+unix://, redis+sentinel://, redis+cluster://, with the password best in a file (?password_file=FILE)")
	f.need("redis")
}

// open connects to Redis. An unusable URL, user, password or database is a fault of the configuration.
func (r *redisFlag) open(ctx context.Context) (redis.UniversalClient, error) {
	client, err := redisstore.OpenClient(ctx, r.url)
	if err != nil {
		return nil, wrong("--%s: %w", r.name, err)
	}
	err = client.Ping(ctx).Err()
	if err == nil {
		return client, nil
	}
	if one, ok := client.(*redis.Client); ok && !rediserr.IsReply(err) && !timedOut(err) && ctx.Err() == nil {
		err = askAgain(ctx, one, err)
	}
	_ = client.Close()
	return nil, r.failed(err)
}

// askAgain connects again without repetitions. A server that has too many clients, or is in protected mode, refuses HELLO and
// closes the connection. The client then repeats HELLO or continues without it, and returns the error of its last write. So
// err is returned only if HELLO is not refused.
func askAgain(ctx context.Context, client *redis.Client, err error) error {
	options := *client.Options()
	options.MaxRetries, options.DialerRetries = -1, 1
	again := redis.NewClient(&options)
	defer again.Close()
	g := new(greeting)
	again.AddHook(g)
	_ = again.Ping(ctx).Err()
	if refusal := g.refusal.Load(); refusal != nil {
		return *refusal
	}
	return err
}

// greeting keeps the refusal of HELLO. An old server that does not know HELLO does not count.
type greeting struct{ refusal atomic.Pointer[error] }

// DialHook does nothing.
func (g *greeting) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessPipelineHook does nothing.
func (g *greeting) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// ProcessHook keeps the refusal.
func (g *greeting) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if cmd.Name() == "hello" && (rediserr.Temporary(err) || rediserr.Protected(err)) {
			g.refusal.Store(&err)
		}
		return err
	}
}

// failed explains why the first request failed. A refusal that no retry mends is a fault of the configuration.
func (r *redisFlag) failed(err error) error {
	scheme, _, _ := strings.Cut(strings.ToLower(r.url), "://")
	switch {
	case rediserr.LoginRefused(err):
		return wrong("Redis refuses the user or the password (check --%s)", r.name)
	case rediserr.DatabaseRefused(err):
		return wrong("the Redis server does not have this database (check the number in --%s)", r.name)
	case rediserr.NoCluster(err):
		return wrong("the Redis server is a single node and not a Cluster (write %s:// in --%s)", strings.TrimSuffix(scheme, "+cluster"), r.name)
	case strings.HasSuffix(scheme, "+sentinel") && errors.Is(err, redis.Nil):
		return wrong("the Sentinels know no master of this name (check the option master in --%s)", r.name)
	case rediserr.Protected(err):
		return wrong("redis refused the connection: DENIED, the server is in protected mode (set a password in Redis)")
	case rediserr.Code(err) == "NOPERM":
		return wrong("redis refused the request: %s (check the ACL of the Redis user)", shortReply(err))
	case strings.HasSuffix(scheme, "+sentinel") && rediserr.NotOffered(err):
		return wrong("the Redis server is not a Sentinel (write %s:// in --%s, or the address of a Sentinel)", strings.TrimSuffix(scheme, "+sentinel"), r.name)
	case rediserr.Temporary(err):
		return fmt.Errorf("redis cannot serve the request now: %s (try again later)", shortReply(err))
	case rediserr.IsReply(err):
		return fmt.Errorf("redis refused the request: %s (check the server)", shortReply(err))
	case rediserr.NotRedis(err):
		return wrong("the server does not speak the Redis protocol (check --%s)", r.name)
	case strings.HasPrefix(scheme, "rediss") && handshakeFailed(err):
		return fmt.Errorf("redis does not answer (check that the port speaks TLS): %w", err)
	default:
		return fmt.Errorf("redis does not answer (check --%s): %w", r.name, err)
	}
}

// shortReply returns the first sentence of a server's refusal, of at most 64 bytes.
func shortReply(err error) string {
	const most = 64
	text, _, _ := strings.Cut(rediserr.Text(err), ". ")
	if len(text) > most {
		return text[:most] + "..."
	}
	return strings.TrimSuffix(text, ".")
}

// handshakeFailed reports whether a TLS handshake may have failed because the server does not speak TLS. Such a server
// waits for more, closes the connection or answers without TLS.
func handshakeFailed(err error) bool {
	var record tls.RecordHeaderError
	return timedOut(err) || errors.Is(err, io.EOF) || errors.As(err, &record)
}

func timedOut(err error) bool {
	var timeout net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout()
}

// server names the server and the database for a report, without the user, the password and the options of the URL.
func (r *redisFlag) server(client redis.UniversalClient) (server string, database int) {
	if u, err := url.Parse(r.url); err == nil {
		server = u.Scheme + "://" + u.Host
		if u.Host == "" {
			server += u.Path // of a socket
		}
	}
	if one, ok := client.(*redis.Client); ok {
		database = one.Options().DB
	}
	return server, database
}
