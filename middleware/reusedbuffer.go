package middleware

import (
	"errors"
	"reflect"
	"sync/atomic"

	"github.com/eko/gocache/lib/v4/store"
)

// A reusedBuffer is the argument of a Set of gocache's Redis store over go-redis. It
// holds a sealed value in a buffer that the Store uses again later. At 16 KiB, a
// new buffer for each value would cost a third of the throughput, which is more
// than AES costs.
//
// go-redis asks an encoding.BinaryMarshaler for its bytes when it writes a
// command. If go-redis has asked exactly once when Set returns without error,
// it has written the bytes and nothing else refers to them. Otherwise a second
// attempt, or a hook that sends the command elsewhere too, may still use the
// buffer. Then the Store does not use it again. A request after Set returns
// gets an error, and never the bytes of another value.
type reusedBuffer struct {
	sealed   []byte
	requests atomic.Int32 // or ended
}

const ended = -1

var errReadAfterSet = errors.New("middleware: a hook of the Redis client read the value after Set returned (the hook must copy it)")

// MarshalBinary implements encoding.BinaryMarshaler.
func (b *reusedBuffer) MarshalBinary() ([]byte, error) {
	for {
		n := b.requests.Load()
		if n == ended {
			return nil, errReadAfterSet
		}
		if b.requests.CompareAndSwap(n, n+1) {
			return b.sealed, nil
		}
	}
}

// end makes later requests of the client fail. It reports whether the buffer may be used again.
func (b *reusedBuffer) end() bool { return b.requests.CompareAndSwap(1, ended) }

// String is for hooks that print commands.
func (b *reusedBuffer) String() string { return "[sealed]" }

const (
	gocacheRedis = "github.com/eko/gocache/store/redis/v4"
	goRedis      = "github.com/redis/go-redis/v9"
)

// acceptsReusedBuffers reports whether the backing store is gocache's own for Redis over a
// *redis.Client or *redis.ClusterClient. Other clients get plain bytes, because
// they may not know encoding.BinaryMarshaler. The client is in the store's field
// of type RedisClientInterface. Without that field, acceptsReusedBuffers returns false.
func acceptsReusedBuffers(backing store.StoreInterface) bool {
	v := reflect.ValueOf(backing)
	if !isPointerTo(v.Type(), gocacheRedis, "RedisStore") || v.IsNil() || v.Elem().Kind() != reflect.Struct {
		return false
	}
	for i := range v.Elem().NumField() {
		f := v.Elem().Field(i)
		if f.Type().PkgPath() != gocacheRedis || f.Type().Name() != "RedisClientInterface" || f.Kind() != reflect.Interface || f.IsNil() {
			continue
		}
		t := f.Elem().Type()
		return isPointerTo(t, goRedis, "Client") || isPointerTo(t, goRedis, "ClusterClient")
	}
	return false
}

func isPointerTo(t reflect.Type, pkg, name string) bool {
	return t.Kind() == reflect.Pointer && t.Elem().PkgPath() == pkg && t.Elem().Name() == name
}
