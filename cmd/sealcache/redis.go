package main

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/sealcache/sealcache/stores/redisstore"
)

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

// silenceRedis keeps go-redis from logging to the terminal, because errors show the same.
func silenceRedis() { redis.SetLogger(silent{}) }

// redisFlag is the flag --redis.
type redisFlag struct{ url string }

func (r *redisFlag) declare(f *flags) {
	f.env(&r.url, "redis", "SEALCACHE_STORE", "`URL` of Redis: redis://, rediss://, redis+unix://, redis+sentinel://, redis+cluster://, with the password best in a file (?password_file=FILE)")
	f.need("redis")
}

// open connects to Redis. An unusable URL, user, password or database is a fault of the configuration.
func (r *redisFlag) open(ctx context.Context) (redis.UniversalClient, error) {
	client, err := redisstore.OpenClient(ctx, r.url)
	if err != nil {
		return nil, wrong("%w", err)
	}
	err = client.Ping(ctx).Err()
	if err == nil {
		return client, nil
	}
	_ = client.Close()
	switch {
	case loginRefused(err):
		return nil, wrong("Redis refuses the user or the password (check the URL)")
	case databaseRefused(err):
		return nil, wrong("the Redis server does not have this database (check the number in the URL)")
	default:
		return nil, fmt.Errorf("redis does not answer (check its URL): %w", err)
	}
}

// loginRefused reports whether Redis refused the user or the password. The client wraps some of these replies only as text,
// and Redis has no code for the last one.
func loginRefused(err error) bool {
	return redis.IsAuthError(err) || says(err, "wrongpass", "noauth", "auth failed", "without any password configured")
}

// databaseRefused reports whether Redis does not have the database. Redis has no code for it.
func databaseRefused(err error) bool { return says(err, "db index", "select is not allowed") }

// says reports whether the text of an error contains one of these parts, which are in lower case.
func says(err error, parts ...string) bool {
	text := strings.ToLower(err.Error())
	return slices.ContainsFunc(parts, func(part string) bool { return strings.Contains(text, part) })
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
