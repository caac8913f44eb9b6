// Package stores opens the gocache store that a URL names, so that where an application caches is a matter of its
// configuration.
//
//	s, err := stores.Open(ctx, os.Getenv("CACHE_URL"))
//	...
//	defer s.Close()
//
// The scheme names the driver:
//
//	memory://                                        in this process, bounded in bytes: package memorystore
//	redis://user:password@host:6379/0                one Redis: package redisstore
//	redis+unix:///run/redis.sock?db=0                one Redis on a unix socket; also unix://
//	redis+sentinel://host1,host2/0?master=name       the master that Sentinel names
//	redis+cluster://host1:6379,host2:6379            a Redis Cluster
//	rediss://, rediss+sentinel://, rediss+cluster:// the same over TLS
//
// Who needs Redis itself under the same URL, for a migration or a queue, takes [redisstore.OpenClient].
//
// The options of each are listed at [memorystore.Open] and [redisstore.Open]. An unknown scheme or option is an error that
// lists the known ones. No error repeats a password or any other part of the URL but the names of schemes and options.
//
// A driver offers more than gocache's interface: enumeration, atomic swaps, bytes that the caller owns, exact TTLs. Who
// needs that looks for it with a type assertion on the interface that it needs, as the decorator in package middleware
// does. Every store of gocache works there too, with the abilities that it has.
package stores
