package middleware_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/prf"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/middleware/migrate"
)

type ids struct{ IDs []int64 }

// trusting is a codec that relies on the bytes that it wrote itself.
type trusting struct{ format middleware.Format }

func (c trusting) Format() middleware.Format { return c.format }

func (trusting) Encode(v any) ([]byte, error) {
	if v == "panic" {
		panic(errors.New(canary))
	}
	if _, ok := v.(ids); !ok {
		panic(canary)
	}
	return []byte{1, 2, 3, 4}, nil
}

func (trusting) Decode(b []byte) (any, error) { return b[len(b)], nil }

// While plaintext is accepted, planted bytes reach the codec. They end neither the process nor the request.
func TestPlantedPlaintextReachesTheCodec(t *testing.T) {
	t.Parallel()
	deep, err := json.Marshal("x")
	require.NoError(t, err)
	for name, codec := range map[string]middleware.Codec{
		"msgpack":  middleware.MsgPack[ids](),
		"any":      middleware.MsgPack[any](),
		"maps":     middleware.MsgPack[map[string]any](),
		"json":     middleware.JSON[ids](),
		"protobuf": middleware.Proto[*structpb.Value](),
		"custom":   trusting{middleware.FormatCustom},
		"as json":  trusting{middleware.FormatJSON},
	} {
		m := memory(t)
		s := sealed(t, m, keyring(t), middleware.WithCodec(codec), middleware.WithPlaintext(middleware.ReadPlaintext))
		for _, planted := range [][]byte{
			{0x81, 0xa3, 'I', 'D', 's', 0xdd, 0xff, 0xff, 0xff, 0xff},
			append([]byte{0x81, 0xa1, 'x'}, bytes.Repeat([]byte{0x91}, 8<<20)...),
			bytes.Repeat([]byte{0x91}, 8<<20),
			append(append(bytes.Repeat([]byte{'['}, 1<<20), deep...), bytes.Repeat([]byte{']'}, 1<<20)...),
			bytes.Repeat([]byte{0x32, 0xff, 0xff, 0xff, 0x7f}, 1000),
			{0x81, 0x90, 0x01}, // a map whose key is an array: Go cannot hash it
			{1},
		} {
			require.NoError(t, m.SetBytes(t.Context(), "k", planted))
			v, err := s.Get(t.Context(), "k")
			if formless := name == "protobuf" || name == "custom"; formless && len(planted) > 1<<20 {
				require.ErrorIs(t, err, middleware.ErrTooLarge, name)
				continue
			}
			require.NoError(t, err, name)
			if b, ok := v.([]byte); ok {
				require.True(t, bytes.Equal(planted, b), name)
			}
		}
	}
}

// wide is a type whose size is 4 KiB for one planted byte.
type wide struct{ Words [512]int64 }

// Plaintext that a codec would decode is bounded, because each of its bytes may declare an element of any size.
func TestPlantedPlaintextIsBoundedBeforeDecoding(t *testing.T) {
	t.Parallel()
	msgpack := func(n int) []byte { // an array of empty maps
		return append(binary.BigEndian.AppendUint32([]byte{0xdd}, uint32(n-5)), bytes.Repeat([]byte{0x80}, n-5)...)
	}
	jsonText := func(n int) []byte { // an array of zeros
		return append(bytes.Repeat([]byte{' '}, n%2), "["+strings.Repeat("0,", n/2-2)+"0] "...)
	}
	for name, c := range map[string]struct {
		codec middleware.Codec
		bytes func(n int) []byte
	}{
		"msgpack": {middleware.MsgPack[[]wide](), msgpack},
		"json":    {middleware.JSON[[]wide](), jsonText},
	} {
		m := memory(t)
		get := func(n int, opts ...middleware.Option) (any, error) {
			require.Len(t, c.bytes(n), n, name)
			require.NoError(t, m.SetBytes(t.Context(), "k", c.bytes(n)))
			opts = append(opts, middleware.WithCodec(c.codec), middleware.WithPlaintext(middleware.SealOnRead))
			return sealed(t, m, keyring(t), opts...).Get(t.Context(), "k")
		}
		_, err := get(1<<20 + 1)
		require.ErrorIs(t, err, middleware.ErrTooLarge, name)
		require.Equal(t, c.bytes(1<<20+1), raw(t, m, "k"), "it is neither sealed nor changed")
		_, err = get(2000, middleware.WithMaxValueBytes(1000))
		require.ErrorIs(t, err, middleware.ErrTooLarge, name)
		_, err = get(1<<10, middleware.WithMaxValueBytes(2<<20))
		require.NoError(t, err, name)
	}

	// An application may decode more. Plaintext that is not in the codec's form is returned unchanged.
	m := memory(t)
	long := strings.Repeat("x", 2<<20)
	asJSON, err := json.Marshal(user{Name: long})
	require.NoError(t, err)
	require.NoError(t, m.SetBytes(t.Context(), "k", asJSON))
	opts := []middleware.Option{middleware.WithCodec(middleware.JSON[user]()), middleware.WithPlaintext(middleware.ReadPlaintext)}
	got, err := sealed(t, m, keyring(t), append(opts, middleware.WithMaxValueBytes(3<<20))...).Get(t.Context(), "k")
	require.NoError(t, err)
	require.Equal(t, user{Name: long}, got)
	writer := sealed(t, m, keyring(t), middleware.WithCodec(middleware.JSON[user]()), middleware.WithPlaintext(middleware.WritePlaintext))
	require.ErrorIs(t, writer.Set(t.Context(), "k", user{Name: long}), middleware.ErrTooLarge, "no Get would read it")
	require.NoError(t, m.SetBytes(t.Context(), "k", []byte(long)))
	got, err = sealed(t, m, keyring(t), opts...).Get(t.Context(), "k")
	require.NoError(t, err)
	require.Equal(t, long, text(t, got))
}

// A codec's panic becomes an error of the value. The error does not show its text.
func TestCodecPanics(t *testing.T) {
	t.Parallel()
	m := memory(t)
	s := sealed(t, m, keyring(t), middleware.WithCodec(trusting{middleware.FormatCustom}))
	err := s.Set(t.Context(), "k", struct{}{})
	require.ErrorContains(t, err, "cannot encode")
	require.NotContains(t, err.Error(), canary)
	require.NoError(t, s.Set(t.Context(), "k", ids{}))
	_, err = s.Get(t.Context(), "k")
	require.ErrorContains(t, err, "cannot decode")
}

func TestNilMessageIsNamed(t *testing.T) {
	t.Parallel()
	s := sealed(t, memory(t), keyring(t), middleware.WithCodec(middleware.Proto[*structpb.Value]()))
	err := s.Set(t.Context(), "k", (*structpb.Value)(nil))
	require.ErrorIs(t, err, middleware.ErrUnsupportedType)
	require.EqualError(t, err, "sealcache: unsupported type: *structpb.Value: the protobuf message is a nil pointer (store an empty message instead)")
	require.NotContains(t, err.Error(), "takes")
	err = s.Set(t.Context(), "k", structpb.Value{})
	require.ErrorContains(t, err, "takes *structpb.Value")
}

// A migration gives plaintext the type of a codec. Readers decode a sealed value without another check, so bytes that
// would end their process are not sealed as that type.
func TestMigrationSealsNoPlantedMsgPack(t *testing.T) {
	t.Parallel()
	server, keys := redistest.Start(t), keyring(t)
	c := server.Client(t)
	planted := []byte{0x81, 0xa3, 'I', 'D', 's', 0xdd, 0xff, 0xff, 0xff, 0xff}
	require.NoError(t, c.Set(t.Context(), "app:planted", planted, 0).Err())
	require.NoError(t, c.Set(t.Context(), "app:sound", []byte{0x81, 0xa3, 'I', 'D', 's', 0x91, 7}, 0).Err())
	for _, hidden := range []*prf.Set{prfSet(t), nil} {
		r, err := migrate.Run(t.Context(), c, migrate.Config{
			Operation: migrate.Seal, From: migrate.Space{Namespace: "app"}, Keys: keys, As: migrate.AsMsgPack, HiddenKeys: hidden, AllowUnproven: true,
		})
		require.NoError(t, err)
		require.EqualValues(t, 1, r.WrongType)
		got, err := c.Get(t.Context(), "app:planted").Bytes()
		require.NoError(t, err)
		require.Equal(t, planted, got)
	}
}
