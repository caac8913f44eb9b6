// Package stores opens a gocache store from a URL, so that the configuration of an application can choose the store. gocache
// is github.com/eko/gocache. The stores do not encrypt: to seal values, pass the store to middleware.New.
//
//	s, err := stores.Open(ctx, os.Getenv("CACHE_URL"))
//	...
//	defer s.Close()
//
// The scheme of the URL selects the store:
//
//	memory://                                        in this process, with a limit in bytes: package memorystore
//	redis://user:password@host:6379/0                one Redis: package redisstore
//	redis+unix:///run/redis.sock?db=0                one Redis on a unix socket; also unix://
//	redis+sentinel://host1,host2/0?master=name       the master, whose address Sentinel knows
//	redis+cluster://host1:6379,host2:6379            a Redis Cluster
//	rediss://, rediss+sentinel://, rediss+cluster:// the same over TLS
//
// The comments of [memorystore.Open] and [redisstore.Open] list the options of a URL. If you need a Redis client for
// the same URL, for example for a queue, call [redisstore.OpenClient].
//
// An unknown scheme or option is an error. Errors contain no password.
//
// These stores have more methods than gocache's interface. For example, they list entries, and swap values atomically.
// Package middleware uses these methods. It also accepts the stores of gocache that docs/stores.md lists, with fewer features.
package stores
