package main

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/sealcache/sealcache/stores/redisstore"
)

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

// silenceRedis keeps go-redis from writing to the terminal what errors say anyway.
func silenceRedis() { redis.SetLogger(silent{}) }

func (f *flags) redis() *string {
	return f.env("redis", "SEALCACHE_STORE", "`URL` of Redis, as the application's: redis://, rediss://, redis+sentinel://, redis+cluster://; "+
		"its password is better named by the option password_env or password_file than in a command line")
}

// openRedis makes the client for a URL, as a store would, and asks whether Redis answers.
func openRedis(ctx context.Context, url string) (redis.UniversalClient, error) {
	if url == "" {
		return nil, wrong("-redis is missing: give the URL of Redis by it, or in SEALCACHE_STORE")
	}
	client, err := redisstore.OpenClient(ctx, url)
	if err != nil {
		return nil, wrong("%v", err)
	}
	if err := client.Ping(ctx).Err(); err != nil {
		_ = client.Close()
		return nil, fmt.Errorf("redis does not answer: %w", err)
	}
	return client, nil
}
