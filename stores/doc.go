// Package stores opens a gocache store from a URL. So the configuration of an application can choose the store.
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
// [memorystore.Open] and [redisstore.Open] list the URL options. To get a Redis client for the same URL, for example for a queue or a
// migration, call [redisstore.OpenClient].
//
// Open returns an error for an unknown scheme or option, and names it. Errors contain no password and no other part of the URL.
//
// The drivers have more methods than gocache's interface: they list entries, swap atomically, return exact TTLs, and return bytes
// that the caller owns. Their method Capabilities tells package middleware which methods exist. Package middleware also accepts the
// stores that gocache publishes, with fewer features.
package stores
