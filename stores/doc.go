// Package stores opens the gocache store that a URL names, so that configuration decides where an application caches.
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
// For a Redis client of the same URL, such as for a migration or a queue, use [redisstore.OpenClient].
//
// The options of each are listed at [memorystore.Open] and [redisstore.Open]. An unknown scheme or option is an error that
// names it. No error repeats a password or any other part of the URL except names of schemes and options.
//
// The drivers offer more than gocache's interface: enumeration, atomic swaps, bytes that the caller owns, exact TTLs. Their
// method Capabilities lists it for package middleware. Stores that gocache publishes work there too, with fewer features.
package stores
