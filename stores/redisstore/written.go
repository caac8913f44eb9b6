package redisstore

import (
	"strings"

	"github.com/redis/go-redis/v9"
)

// reach is the set of keys that a command writes.
type reach int

const (
	unknownKeys reach = iota // perhaps any
	noKey
	firstKey
	everyArgument
	countedKeys // scripts: the number of keys is the second argument
)

// reachOfCommands lists the commands whose keys are known. A command that is not listed may write any key.
func reachOfCommands() map[string]reach {
	commands := make(map[string]reach)
	for r, names := range map[reach]string{
		noKey: `get mget getrange strlen exists type ttl pttl expiretime pexpiretime object dump
			hget hmget hgetall hexists hkeys hvals hlen hscan lrange llen lindex smembers sismember smismember scard sscan
			zrange zrangebyscore zscore zrank zcard zcount zscan xrange xlen xread
			scan keys dbsize randomkey info ping echo time hello auth client command config acl memory latency slowlog role wait
			select readonly readwrite asking cluster script function eval_ro evalsha_ro fcall_ro
			multi exec discard watch unwatch publish spublish subscribe psubscribe ssubscribe unsubscribe`,
		firstKey: `set setex psetex setnx getset getdel getex append setrange incr incrby incrbyfloat decr decrby setbit
			expire pexpire expireat pexpireat persist restore
			sadd srem spop hset hsetnx hmset hdel hincrby hincrbyfloat hexpire hpexpire
			lpush rpush lpushx rpushx lpop rpop lset linsert lrem ltrim
			zadd zrem zincrby zremrangebyscore zremrangebyrank zpopmin zpopmax xadd xdel xtrim xack`,
		everyArgument: `del unlink touch`,
		countedKeys:   `eval evalsha fcall`,
	} {
		for _, name := range strings.Fields(names) {
			commands[name] = r
		}
	}
	return commands
}

// written are the keys that commands write, or all of them.
type written struct {
	keys []string
	all  bool
}

func (w *written) nothing() bool { return !w.all && len(w.keys) == 0 }

func (w *written) add(known map[string]reach, cmd redis.Cmder) {
	args := cmd.Args()
	switch known[cmd.Name()] {
	case noKey:
	case firstKey:
		w.addKeys(args, 1, 2)
	case everyArgument:
		w.addKeys(args, 1, len(args))
	case countedKeys:
		n, ok := 0, false
		if len(args) > 2 {
			n, ok = args[2].(int)
		}
		if ok && n >= 0 && n <= len(args)-3 {
			w.addKeys(args, 3, 3+n)
		} else {
			w.all = true
		}
	default:
		w.all = true
	}
}

func (w *written) addKeys(args []any, from, to int) {
	for i := from; i < to; i++ {
		var key any
		if i < len(args) {
			key = args[i]
		}
		switch k := key.(type) {
		case string:
			w.keys = append(w.keys, k)
		case []byte:
			w.keys = append(w.keys, string(k))
		default: // go-redis formats it
			w.all = true
		}
	}
}
