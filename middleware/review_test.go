package middleware_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/eko/gocache/lib/v4/cache"
	"github.com/eko/gocache/lib/v4/store"
	"github.com/stretchr/testify/require"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"google.golang.org/protobuf/proto"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/stores/memorystore"
	"github.com/sealcache/sealcache/stores/redisstore"
)

// An AEAD that is not of package aead may be a key service. That it does not
// answer is no refusal, and nothing is overwritten for it.
func TestForeignOutageIsNoRefusal(t *testing.T) {
	t.Parallel()
	k := keyring(t)
	for name, outage := range map[string]error{
		"network": &net.OpError{Op: "dial", Err: errors.New("connection refused")}, "cut": io.ErrUnexpectedEOF, "deadline": context.DeadlineExceeded,
		"says nothing": errors.New("permission denied"),
	} {
		m := memory(t)
		down := false
		kek := aeadFuncs{k.Encrypt, func(b, ad []byte) ([]byte, error) {
			if down {
				return nil, outage
			}
			return k.Decrypt(b, ad)
		}}
		a, err := tinkaead.NewKMSEnvelopeAEADWithContext(tinkaead.AES256GCMKeyTemplate(), kek)
		require.NoError(t, err)
		s := sealed(t, m, a, middleware.WithMissOnOpenFailure())
		require.NoError(t, s.Set(t.Context(), "k", "sound"))
		down = true
		_, err = s.Get(t.Context(), "k")
		require.Error(t, err)
		if name != "says nothing" {
			require.ErrorIs(t, err, middleware.ErrKeyServiceUnavailable, name)
			require.NotErrorIs(t, err, store.NotFound{}, name)
		}
		written, err := s.SetIfNotExists(t.Context(), "k", "overwritten")
		require.Error(t, err, name)
		require.False(t, written, name)
		down = false
		got, err := s.Get(t.Context(), "k")
		require.NoError(t, err)
		require.Equal(t, "sound", got, name)
	}
}

// A type that embeds a store and overrides Set is not passed by.
type renaming struct {
	*memorystore.Store
	sets int
}

func (r *renaming) Set(ctx context.Context, key, value any, opts ...store.Option) error {
	r.sets++
	return r.Store.Set(ctx, "app:"+key.(string), value, opts...)
}

func (r *renaming) Get(ctx context.Context, key any) (any, error) {
	return r.Store.Get(ctx, "app:"+key.(string))
}

type embedding struct{ *memorystore.Store }

func TestOverridesAreNotPassedBy(t *testing.T) {
	t.Parallel()
	m := memory(t)
	r := &renaming{Store: m}
	s := sealed(t, r, keyring(t))
	require.NoError(t, s.Set(t.Context(), "k", "v"))
	require.Equal(t, 1, r.sets)
	require.True(t, isSealed(t, raw(t, m, "app:k")))
	got, err := s.Get(t.Context(), "k")
	require.NoError(t, err)
	require.Equal(t, "v", got)
	_, err = s.SetIfNotExists(t.Context(), "k", "v")
	require.ErrorIs(t, err, middleware.ErrUnsupported, "it is inherited and would not rename")
	_, err = middleware.New(r, keyring(t), middleware.WithPlaintext(middleware.SealOnRead))
	require.ErrorIs(t, err, middleware.ErrUnsupported)
	require.ErrorContains(t, err, "*middleware_test.renaming")

	// What overrides nothing keeps all that it embeds.
	plainly := sealed(t, embedding{m}, keyring(t), middleware.WithNamespace("n"), middleware.WithPlaintext(middleware.SealOnRead))
	require.NoError(t, plainly.Set(t.Context(), "k", "v"))
	require.NoError(t, plainly.Clear(t.Context()))
}

// While clear values are tolerated they keep the Go type that the store gives
// them, and a store with one codec reads what it wrote.
func TestTolerantPoliciesKeepTypes(t *testing.T) {
	t.Parallel()
	for _, policy := range []middleware.PlaintextPolicy{middleware.ReadPlaintext, middleware.SealOnRead, middleware.WritePlaintext} {
		m := memory(t)
		s := sealed(t, m, envelope(t), middleware.WithPlaintext(policy), middleware.WithCodec(middleware.JSON[user]()))
		require.NoError(t, m.Set(t.Context(), "string", "clear"))
		require.NoError(t, m.Set(t.Context(), "bytes", []byte("clear")))
		require.NoError(t, m.Set(t.Context(), "json", `{"Name":"Ada"}`))
		for range 2 { // SealOnRead: the second is of what it sealed
			for key, want := range map[string]any{"string": "clear", "bytes": []byte("clear"), "json": user{Name: "Ada"}} {
				got, err := s.Get(t.Context(), key)
				require.NoError(t, err)
				require.Exactly(t, want, got, "%s %s", policy, key)
			}
		}
		users := cache.New[user](s)
		require.NoError(t, users.Set(t.Context(), "u", user{Name: "Grace"}))
		got, err := users.Get(t.Context(), "u")
		require.NoError(t, err, policy)
		require.Equal(t, "Grace", got.Name)
	}
}

// A caller's mistake is no property of the stored value.
func TestMissOnOpenFailureHidesNoMistake(t *testing.T) {
	t.Parallel()
	s := sealed(t, memory(t), keyring(t), middleware.WithMissOnOpenFailure())
	_, err := s.Get(t.Context(), 42)
	require.ErrorIs(t, err, middleware.ErrUnsupportedType)
	require.NotErrorIs(t, err, store.NotFound{})
	require.ErrorContains(t, s.Set(t.Context(), "k", "v", nil), "nil store.Option")
}

func TestProtoTakesNoInterface(t *testing.T) {
	t.Parallel()
	_, err := middleware.New(memory(t), keyring(t), middleware.WithCodec(middleware.Proto[proto.Message]()))
	require.ErrorContains(t, err, "generated message type")
}

// With WritePlaintext, what replaces an unreadable value is clear, too.
func TestReplacingFollowsThePolicy(t *testing.T) {
	t.Parallel()
	m, a := memory(t), keyring(t)
	require.NoError(t, sealed(t, m, a).Set(t.Context(), "other", "moved"))
	require.NoError(t, m.SetBytes(t.Context(), "k", raw(t, m, "other")))
	s := sealed(t, m, a, middleware.WithMissOnOpenFailure(), middleware.WithPlaintext(middleware.WritePlaintext))
	_, err := s.SetIfNotExists(t.Context(), "k", 42)
	require.ErrorIs(t, err, middleware.ErrUnsupported, "a swap takes bytes")
	written, err := s.SetIfNotExists(t.Context(), "k", "clear")
	require.NoError(t, err)
	require.True(t, written)
	require.Equal(t, "clear", string(raw(t, m, "k")))
}

// Who may write to a tag's set, and to nothing else, cannot have the
// application delete what lies outside its namespace.
func TestPlantedTagMembersAreLeftAlone(t *testing.T) {
	t.Parallel()
	client := redistest.Start(t).Client(t)
	backing, err := redisstore.New(client)
	require.NoError(t, err)
	a := keyring(t)
	s := sealed(t, backing, a, middleware.WithNamespace("shop"))
	require.NoError(t, s.Set(t.Context(), "k", "v", store.WithTags([]string{"t"})))
	require.NoError(t, client.RPush(t.Context(), "asynq:{default}:pending", "a job").Err())
	require.NoError(t, client.Set(t.Context(), "bank:balance", "1", 0).Err())
	require.NoError(t, client.SAdd(t.Context(), "gocache_tag_shop:t", "asynq:{default}:pending", "bank:balance").Err())
	require.NoError(t, s.Invalidate(t.Context(), store.WithInvalidateTags([]string{"t"})))
	_, err = s.Get(t.Context(), "k")
	require.ErrorIs(t, err, store.NotFound{})
	n, err := client.Exists(t.Context(), "asynq:{default}:pending", "bank:balance").Result()
	require.NoError(t, err)
	require.EqualValues(t, 2, n)
}

func TestPrintedStoreShowsNothing(t *testing.T) {
	t.Parallel()
	s := sealed(t, memory(t), keyring(t), middleware.WithNamespace(canary))
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d", "%x"} {
		require.Equal(t, "middleware.Store(memory)", fmt.Sprintf(verb, s), verb)
	}
}
