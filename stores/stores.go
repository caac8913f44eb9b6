package stores

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/eko/gocache/lib/v4/store"

	"github.com/sealcache/sealcache/internal/errtext"
	"github.com/sealcache/sealcache/stores/memorystore"
	"github.com/sealcache/sealcache/stores/redisstore"
)

// Store is a gocache store that owns its connections: Close closes them.
type Store interface {
	store.StoreInterface
	io.Closer
}

var (
	_ Store = (*memorystore.Store)(nil)
	_ Store = (*redisstore.Store)(nil)
)

const schemes = "memory, redis, rediss, redis+unix, unix, redis+sentinel, rediss+sentinel, redis+cluster, rediss+cluster"

// Open returns the store that a URL names. The package comment lists the schemes. Open checks the URL, reads the files that it
// names, and does not connect, so that a service can start before its Redis. The store's Ping returns an error if the server
// does not answer.
func Open(ctx context.Context, url string) (Store, error) {
	if ctx.Err() != nil {
		return nil, fmt.Errorf("stores: open: %w", errtext.Guard(context.Cause(ctx)))
	}
	if url == "" {
		return nil, errors.New("stores: open: the URL is empty (is the environment variable set?)")
	}
	scheme, _, ok := strings.Cut(url, "://")
	if !ok {
		return nil, errors.New("stores: open: the text is not a URL such as redis://localhost:6379/0 or memory://")
	}
	// A failed Open must not return a Store that holds a nil pointer.
	switch strings.ToLower(scheme) {
	case "memory":
		s, err := memorystore.Open(url)
		if err != nil {
			return nil, fmt.Errorf("stores: %w", err)
		}
		return s, nil
	case "redis", "rediss", "redis+unix", "unix", "redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster":
		s, err := redisstore.Open(ctx, url)
		if err != nil {
			return nil, fmt.Errorf("stores: %w", err)
		}
		return s, nil
	default:
		return nil, fmt.Errorf("stores: open: the URL has the unknown scheme %s (allowed: %s)", quoted(scheme), schemes)
	}
}

// quoted returns a scheme if it looks like one. Otherwise it may be a part of a password that was not encoded.
func quoted(scheme string) string {
	other := func(r rune) bool { return (r < 'a' || r > 'z') && r != '+' && r != '-' }
	if scheme == "" || len(scheme) > 20 || strings.ContainsFunc(scheme, other) {
		return "(not shown)"
	}
	return strconv.Quote(scheme)
}
