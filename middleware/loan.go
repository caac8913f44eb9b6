package middleware

import (
	"errors"
	"reflect"
	"sync/atomic"

	"github.com/eko/gocache/lib/v4/store"
)

// loan is a sealed value in a buffer that is to be used again, as it is given
// to gocache's Redis store over go-redis, which promises nothing about what it
// keeps. At 16 KiB a fresh buffer for each value costs more than AES does: a
// third of the throughput, and the collector's pauses.
//
// go-redis asks an encoding.BinaryMarshaler for its bytes when it writes a
// command. A Set that has succeeded has asked once at least; so if the bytes were
// asked for exactly once when it returns, go-redis has written them, and nobody
// else has them. If somebody asked again (a second attempt, or a hook of the
// client that sends the command elsewhere too) the buffer is left to them. Who
// asks later gets an error, and never the bytes of another value.
type loan struct {
	sealed []byte
	asked  atomic.Int32 // returned: less than 0
}

const returned = -1

var errReturned = errors.New("middleware: the sealed value was asked for after the Set that wrote it had returned: copy what a command holds before it returns")

// MarshalBinary implements encoding.BinaryMarshaler.
func (l *loan) MarshalBinary() ([]byte, error) {
	for {
		n := l.asked.Load()
		if n == returned {
			return nil, errReturned
		}
		if l.asked.CompareAndSwap(n, n+1) {
			return l.sealed, nil
		}
	}
}

// back ends the loan, and tells whether the buffer may be used again.
func (l *loan) back() bool { return l.asked.CompareAndSwap(1, returned) }

// String is for hooks that print commands.
func (l *loan) String() string { return "[sealed]" }

// overGoRedis tells whether the backing store is gocache's own for Redis over
// one of go-redis' own clients, and so takes a loan. It looks at types only. If
// gocache names its field otherwise one day, it is false, and
// TestLoansAreTakenOverGocache says so.
func overGoRedis(backing store.StoreInterface) bool {
	v := reflect.ValueOf(backing)
	if !isA(v.Type(), "github.com/eko/gocache/store/redis/v4", "RedisStore") {
		return false
	}
	client := v.Elem().FieldByName("client")
	if client.Kind() != reflect.Interface || client.IsNil() {
		return false
	}
	const goRedis = "github.com/redis/go-redis/v9"
	t := client.Elem().Type()
	return isA(t, goRedis, "Client") || isA(t, goRedis, "ClusterClient")
}

// isA tells whether t is a pointer to the type of that name.
func isA(t reflect.Type, pkg, name string) bool {
	return t.Kind() == reflect.Pointer && t.Elem().PkgPath() == pkg && t.Elem().Name() == name
}
