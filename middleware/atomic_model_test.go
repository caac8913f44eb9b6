package middleware_test

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/stores/redisstore"
)

// Any sequence of operations leaves what a map would hold, and each expiry to the millisecond.
func TestAtomicOperationsFollowTheModel(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	r, err := redisstore.New(client)
	require.NoError(t, err)
	s := sealed(t, r, keyring(t), middleware.WithPlaintext(middleware.ReadPlaintext))
	run := 0
	rapid.Check(t, func(rt *rapid.T) {
		run++
		m := model{t: rt, s: s, r: r, client: client, prefix: fmt.Sprint(run, ":"), entries: map[string]*modeled{}}
		rt.Repeat(map[string]func(*rapid.T){
			"set":               m.set,
			"plant":             m.plant,
			"increment":         m.increment,
			"update":            m.update,
			"touch":             m.touch,
			"get and delete":    m.getAndDelete,
			"set if not exists": m.setIfNotExists,
			"delete":            m.delete,
			"":                  m.check,
		})
	})
}

// modeled is an entry as it should be.
type modeled struct {
	value     any           // []byte if it is plaintext
	plaintext bool          // planted, and not yet sealed by a write
	expires   time.Duration // as PEXPIRETIME says, -1 for never
}

type model struct {
	t       *rapid.T
	s       *middleware.Store
	r       *redisstore.Store
	client  *redis.Client
	prefix  string
	entries map[string]*modeled
}

func (m *model) key(rt *rapid.T) string {
	return m.prefix + rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "key")
}

func value() *rapid.Generator[any] {
	return rapid.OneOf(
		rapid.Int64().AsAny(), rapid.Int8().AsAny(), rapid.Uint8().AsAny(), rapid.Int().AsAny(), rapid.Uint64().AsAny(), rapid.Int32().AsAny(),
		rapid.SampledFrom([]any{int64(math.MaxInt64), int64(math.MinInt64), "text", "12", 1.5, true}),
	)
}

func ttl() *rapid.Generator[time.Duration] {
	return rapid.Map(rapid.SampledFrom([]int{0, 60_001, 123_457, 3_600_000}), func(ms int) time.Duration { return time.Duration(ms) * time.Millisecond })
}

// expiry returns the point in time at which an entry expires.
func (m *model) expiry(key string) time.Duration {
	at, err := m.client.PExpireTime(m.t.Context(), key).Result()
	require.NoError(m.t, err)
	return at
}

// wrote records a value that was written with its own expiry.
func (m *model) wrote(key string, value any, left time.Duration) {
	e := &modeled{value: value, expires: m.expiry(key)}
	if left == 0 {
		require.EqualValues(m.t, -1, e.expires)
	} else {
		require.InDelta(m.t, time.Now().Add(left).UnixMilli(), e.expires.Milliseconds(), 30_000)
	}
	m.entries[key] = e
}

func (m *model) set(rt *rapid.T) {
	key, v, left := m.key(rt), value().Draw(rt, "value"), ttl().Draw(rt, "ttl")
	require.NoError(m.t, m.s.Set(m.t.Context(), key, v, store.WithExpiration(left)))
	m.wrote(key, v, left)
}

func (m *model) plant(rt *rapid.T) {
	key, left := m.key(rt), ttl().Draw(rt, "ttl")
	text := rapid.SampledFrom([]string{"0", "-7", "9223372036854775807", "007", "text", ""}).Draw(rt, "text")
	require.NoError(m.t, m.r.SetBytes(m.t.Context(), key, []byte(text), store.WithExpiration(left)))
	m.wrote(key, []byte(text), left)
	m.entries[key].plaintext = true
}

func (m *model) setIfNotExists(rt *rapid.T) {
	key, v, left := m.key(rt), value().Draw(rt, "value"), ttl().Draw(rt, "ttl")
	written, err := m.s.SetIfNotExists(m.t.Context(), key, v, store.WithExpiration(left))
	require.NoError(m.t, err)
	require.Equal(m.t, m.entries[key] == nil, written)
	if written {
		m.wrote(key, v, left)
	}
}

func (m *model) increment(rt *rapid.T) {
	key, left := m.key(rt), ttl().Draw(rt, "ttl")
	delta := rapid.OneOf(rapid.Int64Range(-3, 3), rapid.Int64()).Draw(rt, "delta")
	n, err := m.s.Increment(m.t.Context(), key, delta, store.WithExpiration(left))
	e := m.entries[key]
	if e == nil {
		require.NoError(m.t, err)
		require.Equal(m.t, delta, n)
		m.wrote(key, delta, left)
		return
	}
	next, want := sumOf(e, delta)
	if want != nil {
		require.ErrorIs(m.t, err, want)
		return
	}
	require.NoError(m.t, err)
	require.Equal(m.t, fmt.Sprint(next), fmt.Sprint(n))
	e.value, e.plaintext = next, false
}

// sumOf is Increment by big integers and the text of the limits.
func sumOf(e *modeled, delta int64) (any, error) {
	limits := map[string][2]string{
		"int": {"-9223372036854775808", "9223372036854775807"}, "int64": {"-9223372036854775808", "9223372036854775807"},
		"int32": {"-2147483648", "2147483647"}, "int8": {"-128", "127"}, "uint8": {"0", "255"}, "uint64": {"0", "9223372036854775807"},
	}
	text, kind := fmt.Sprint(e.value), fmt.Sprintf("%T", e.value)
	if e.plaintext {
		text, kind = string(e.value.([]byte)), "int64"
	}
	limit, ok := limits[kind]
	n, isNumber := new(big.Int).SetString(text, 10)
	if !ok || !isNumber || n.String() != text {
		return nil, middleware.ErrNotANumber
	}
	least, _ := new(big.Int).SetString(limit[0], 10)
	most, _ := new(big.Int).SetString(limit[1], 10)
	sum := new(big.Int).Add(n, big.NewInt(delta))
	if n.Cmp(most) > 0 || sum.Cmp(least) < 0 || sum.Cmp(most) > 0 {
		return nil, middleware.ErrOverflow
	}
	switch e.value.(type) {
	case int:
		return int(sum.Int64()), nil
	case int32:
		return int32(sum.Int64()), nil
	case int8:
		return int8(sum.Int64()), nil
	case uint8:
		return uint8(sum.Int64()), nil
	case uint64:
		return sum.Uint64(), nil
	default:
		return sum.Int64(), nil
	}
}

var errRefused = errors.New("the function refused")

func (m *model) update(rt *rapid.T) {
	key, v, left := m.key(rt), value().Draw(rt, "value"), ttl().Draw(rt, "ttl")
	refuses := rapid.Bool().Draw(rt, "refuses")
	e := m.entries[key]
	calls := 0
	err := m.s.Update(m.t.Context(), key, func(old any, found bool) (any, error) {
		calls++
		require.Equal(m.t, e != nil, found)
		if found {
			require.Equal(m.t, e.value, old)
		} else {
			require.Nil(m.t, old)
		}
		if refuses {
			return nil, errRefused
		}
		return v, nil
	}, store.WithExpiration(left))
	require.Equal(m.t, 1, calls)
	switch {
	case refuses:
		require.Equal(m.t, errRefused, err)
		return
	case e == nil:
		m.wrote(key, v, left)
	default:
		e.value, e.plaintext = v, false
	}
	require.NoError(m.t, err)
}

func (m *model) touch(rt *rapid.T) {
	key, left := m.key(rt), ttl().Draw(rt, "ttl")
	err := m.s.Touch(m.t.Context(), key, left)
	e := m.entries[key]
	if e == nil {
		require.ErrorIs(m.t, err, store.NotFound{})
		return
	}
	require.NoError(m.t, err)
	m.wrote(key, e.value, left)
}

func (m *model) getAndDelete(rt *rapid.T) {
	key := m.key(rt)
	got, err := m.s.GetAndDelete(m.t.Context(), key)
	e := m.entries[key]
	if e == nil {
		require.ErrorIs(m.t, err, store.NotFound{})
		return
	}
	require.NoError(m.t, err)
	require.Equal(m.t, e.value, got)
	delete(m.entries, key)
}

func (m *model) delete(rt *rapid.T) {
	key := m.key(rt)
	require.NoError(m.t, m.s.Delete(m.t.Context(), key))
	delete(m.entries, key)
}

// check compares the store with the model after each operation.
func (m *model) check(*rapid.T) {
	for _, key := range []string{m.prefix + "a", m.prefix + "b"} {
		got, err := m.s.Get(m.t.Context(), key)
		e := m.entries[key]
		if e == nil {
			require.ErrorIs(m.t, err, store.NotFound{})
			continue
		}
		require.NoError(m.t, err)
		require.Equal(m.t, e.value, got)
		require.Equal(m.t, e.expires, m.expiry(key), "the expiry, to the millisecond")
		stored, err := m.r.GetBytes(m.t.Context(), key)
		require.NoError(m.t, err)
		_, err = middleware.Inspect(stored)
		require.Equal(m.t, e.plaintext, err != nil, "sealed by the first write")
	}
}
