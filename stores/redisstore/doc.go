// Package redisstore is a gocache store over Redis that can do what gocache's own Redis store cannot: hand over bytes
// that the caller owns, swap a value atomically, keep tags under concurrent writers, tell a TTL to the millisecond in
// one round trip, enumerate entries, and clear a prefix instead of the whole server.
//
// [New] takes a go-redis client that the application already has, for a single node, Sentinel or Cluster; it is the
// one-word change from gocache's redis.NewRedis. [Open] takes a URL, makes the client and owns it; the options of the
// URL are listed there. [OpenClient] makes the same client for whoever needs Redis itself.
//
// # Differences from gocache's Redis store
//
// The keys, values and tag sets in Redis are the same ("gocache_tag_" and the tag), so that both can work on one Redis
// side by side. The behaviour differs:
//
//   - Get and GetWithTTL return []byte instead of string, which the caller owns and may write into.
//   - A key that is not a string is an error instead of a panic.
//   - TTLs have milliseconds; what is finer is rounded up. No expiry is 0, where gocache says -1ns. In options, 0 and -1ns
//     both mean no expiry; any other negative duration is an error.
//   - Errors of tagging and of invalidation are returned. The set of a tag lives at least as long as the entries that were
//     set with it, unless TagsTTL says otherwise. (gocache's own store, beside this one, cuts it to 720 h.)
//   - Invalidate removes strings only, whatever else a tag's set may name.
//   - A tag's set is no entry: Set and Delete refuse a key that is the name of one.
//   - Clear empties the selected database on every master, where gocache empties all databases of one.
//
// # Tags
//
// On a single node an entry and its tags are written in one script, and Invalidate removes a member and its entry in one
// script, so that no entry is ever without its tags. In a Cluster entry and tags lie on different nodes. There Set writes
// the tags, the entry, and the tags again; Invalidate removes entries, then their memberships, then once more the
// entries. Whatever the interleaving, an entry that was set has its tags when Set returns, also with an error of its
// context: the last step then gets two seconds more. What may be left behind: a writer that dies, or loses the nodes,
// between its steps while the same tag is invalidated can leave an entry that lacks the tag, and one that does so in
// SetIfNotExists, which tags only what it has written, an entry without tags; an Invalidate that dies between its steps can
// leave an entry untagged that was written during it.
//
// Memberships of entries that have expired or were deleted stay until the tag is invalidated or its set expires: no harm
// is done by them but memory. PruneTags removes them. CompareAndSwap leaves tags alone: with a TTL of its own an entry may
// outlive the sets of its tags.
//
// A Cluster's client that reads from replicas (ReadOnly, RouteByLatency, RouteRandomly) does so in Get only, which may then
// return what is no longer there. Everything else asks the masters.
//
// # Retries
//
// go-redis repeats a command whose connection broke. That is harmless for what can be done twice. CompareAndSwap and
// SetIfNotExists cannot: repeated after a reply was lost they would report false for what they did themselves. They are
// sent once; an error from them that is not the server's own means that the outcome is unknown.
//
// # Permissions
//
// The least that an ACL user needs whose entries and tags begin with "shop:", for all methods but Clear:
//
//	ACL SETUSER app on >password ~shop:* ~gocache_tag_shop:* -@all
//	    +ping +get +set +unlink +pttl +type +multi +exec +eval +evalsha +exists +strlen +getrange
//	    +sadd +srem +sismember +sscan +pexpire +persist +scan +info
//
// and +select for a database other than 0, +client|setname for a client_name, +flushdb for Clear, and in a Cluster
// +cluster|slots, +command, +asking, and +readonly for a client that reads from replicas. Names of tags lie in Redis as
// "gocache_tag_" and the tag, hence the second pattern. Without info a scan does not notice that its server was restarted.
// Without multi and exec (both, or neither) values and TTLs are read by a script, which is slower for large values. Without
// tags, swaps and enumeration, ping, get, set, unlink, pttl, multi and exec are enough.
//
// A deadline of a context ends a call in time, if the client was made with ContextTimeoutEnabled, as Open does. A context
// that is cancelled without a deadline ends it before the next attempt, at the latest after the client's ReadTimeout:
// go-redis does not interrupt a read.
//
// A Store is safe for concurrent use. Its errors carry no key and no value, and unwrap to those of go-redis and of the
// context. Scripts are sent once per node and called by their digest.
package redisstore
