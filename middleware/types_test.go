package middleware_test

import (
	"bytes"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/tink"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/sealcache/sealcache/middleware"
)

var predeclared = map[string]any{
	"bytes": []byte("a value"), "bytes empty": []byte{}, "bytes of zeros": make([]byte, 100),
	"string": "a value", "string empty": "", "string not UTF-8": "\xff\xfe\x00", "string of digits": "42",
	"true": true, "false": false,
	"int": int(-42), "int min": math.MinInt, "int max": math.MaxInt,
	"int8": int8(-8), "int16": int16(-16), "int32": int32(math.MinInt32), "int64": int64(math.MinInt64),
	"uint": uint(42), "uint8": uint8(255), "uint16": uint16(65535), "uint32": uint32(math.MaxUint32), "uint64": uint64(math.MaxUint64),
	"uintptr": uintptr(12345), "rune": 'é', "byte": byte(7),
	"float32": float32(1.5), "float64": math.Pi, "infinity": math.Inf(-1), "negative zero": math.Copysign(0, -1),
}

// Types come back as they were set, over stores that return their own bytes, that keep the caller's slice, and that
// return only strings.
func TestPredeclaredTypesComeBack(t *testing.T) {
	t.Parallel()
	everyAEAD(t, func(t *testing.T, a tink.AEADWithContext) {
		for backing, b := range map[string]store.StoreInterface{
			"memory": memory(t), "keeps slices": newPlain("go-cache"), "strings": newPlain("rueidis"), "bytes": newPlain("ristretto"),
		} {
			s := sealed(t, b, a, middleware.WithNamespace("types"))
			for name, v := range predeclared {
				require.NoError(t, s.Set(t.Context(), name, v), "%s over %s", name, backing)
				got, err := s.Get(t.Context(), name)
				require.NoError(t, err, "%s over %s", name, backing)
				require.Exactly(t, v, got, "%s over %s", name, backing)
				again, _, err := s.GetWithTTL(t.Context(), name)
				require.NoError(t, err)
				require.Exactly(t, v, again)
			}
		}
	})
}

func TestNaNComesBack(t *testing.T) {
	t.Parallel()
	s := sealed(t, memory(t), keyring(t))
	nan := math.Float64frombits(0x7ff8_0000_dead_beef)
	require.NoError(t, s.Set(t.Context(), "k", nan))
	got, err := s.Get(t.Context(), "k")
	require.NoError(t, err)
	require.Equal(t, math.Float64bits(nan), math.Float64bits(got.(float64)))
}

func TestNilBytesComeBackEmpty(t *testing.T) {
	t.Parallel()
	everyAEAD(t, func(t *testing.T, a tink.AEADWithContext) {
		s := sealed(t, memory(t), a)
		require.NoError(t, s.Set(t.Context(), "k", []byte(nil)))
		got, err := s.Get(t.Context(), "k")
		require.NoError(t, err)
		require.Equal(t, []byte{}, got)
	})
}

type named string

type user struct {
	Name string
	Born time.Time
}

func TestOtherTypesNeedACodec(t *testing.T) {
	t.Parallel()
	s := sealed(t, newPlain("x"), keyring(t))
	n := 1
	for typ, v := range map[string]any{
		"nil": nil, "*int": &n, "middleware_test.named": named("x"), "middleware_test.user": user{}, "*middleware_test.user": (*user)(nil),
		"time.Duration": time.Second, "[]string": []string{"a"}, "map[string]int": map[string]int{}, "complex128": complex(1, 2), "error": errors.New("x"),
	} {
		err := s.Set(t.Context(), "k", v)
		require.ErrorIs(t, err, middleware.ErrUnsupportedType, typ)
		if typ != "error" {
			require.ErrorContains(t, err, typ)
		}
		_, err = s.Get(t.Context(), "k")
		require.ErrorIs(t, err, store.NotFound{}, "nothing is stored of a refused value")
	}
}

func TestCodecs(t *testing.T) {
	t.Parallel()
	u := user{Name: "Ada", Born: time.Date(1815, 12, 10, 0, 0, 0, 0, time.UTC)}
	for name, c := range map[string]struct {
		codec middleware.Codec
		value any
	}{
		"JSON":            {middleware.JSON[user](), u},
		"JSON pointer":    {middleware.JSON[*user](), &u},
		"JSON nil inside": {middleware.JSON[*user](), (*user)(nil)},
		"JSON slice":      {middleware.JSON[[]string](), []string{"a", "b"}},
		"MsgPack":         {middleware.MsgPack[map[string]int](), map[string]int{"a": 1}},
	} {
		m := memory(t)
		s := sealed(t, m, envelope(t), middleware.WithCodec(c.codec))
		require.NoError(t, s.Set(t.Context(), "k", c.value), name)
		got, err := s.Get(t.Context(), "k")
		require.NoError(t, err, name)
		require.Exactly(t, c.value, got, name)
		require.False(t, bytes.Contains(raw(t, m, "k"), []byte("Ada")))

		// The predeclared types do not use the codec.
		require.NoError(t, s.Set(t.Context(), "n", int64(7)))
		got, err = s.Get(t.Context(), "n")
		require.NoError(t, err)
		require.Exactly(t, int64(7), got)

		// Other types are refused, and the error names the type.
		err = s.Set(t.Context(), "k", named("x"))
		require.ErrorIs(t, err, middleware.ErrUnsupportedType)
		require.ErrorContains(t, err, "middleware_test.named")
	}
}

func TestProtoCodec(t *testing.T) {
	t.Parallel()
	s := sealed(t, memory(t), envelope(t), middleware.WithCodec(middleware.Proto[*durationpb.Duration]()))
	v := durationpb.New(90 * time.Second)
	require.NoError(t, s.Set(t.Context(), "k", v))
	got, err := s.Get(t.Context(), "k")
	require.NoError(t, err)
	require.True(t, proto.Equal(v, got.(*durationpb.Duration)))
	require.ErrorIs(t, s.Set(t.Context(), "k", (*durationpb.Duration)(nil)), middleware.ErrUnsupportedType)
}

// Several formats work together. A value in a format that the store does not have is refused, and the error names the
// format.
func TestSeveralFormats(t *testing.T) {
	t.Parallel()
	m, k := memory(t), keyring(t)
	s := sealed(t, m, k, middleware.WithCodec(middleware.JSON[user]()), middleware.WithCodec(middleware.MsgPack[[]int]()))
	require.NoError(t, s.Set(t.Context(), "u", user{Name: "Ada"}))
	require.NoError(t, s.Set(t.Context(), "n", []int{1, 2}))
	got, err := s.Get(t.Context(), "n")
	require.NoError(t, err)
	require.Equal(t, []int{1, 2}, got)

	only := sealed(t, m, k, middleware.WithCodec(middleware.JSON[user]()))
	_, err = only.Get(t.Context(), "n")
	require.ErrorIs(t, err, middleware.ErrUnsupportedType)
	require.ErrorContains(t, err, "msgpack")

	_, err = middleware.New(m, k, middleware.WithCodec(middleware.JSON[user]()), middleware.WithCodec(middleware.JSON[named]()))
	require.ErrorContains(t, err, "two codecs have the format json")
}

type failing struct{}

const canary = "canary-7e2f"

func (failing) MarshalJSON() ([]byte, error) { return nil, errors.New("cannot write " + canary) }
func (*failing) UnmarshalJSON([]byte) error  { return errors.New("cannot read " + canary) }

// A codec's error may quote the value, so its text is withheld.
func TestCodecErrorsShowNoValue(t *testing.T) {
	t.Parallel()
	m, k := memory(t), keyring(t)
	s := sealed(t, m, k, middleware.WithCodec(middleware.JSON[failing]()))
	err := s.Set(t.Context(), "k", failing{})
	require.Error(t, err)
	require.NotContains(t, err.Error(), canary)

	require.NoError(t, sealed(t, m, k, middleware.WithCodec(middleware.JSON[user]())).Set(t.Context(), "k", user{Name: canary}))
	_, err = s.Get(t.Context(), "k")
	require.Error(t, err)
	require.NotContains(t, err.Error(), canary)
	_, err = sealed(t, m, k, middleware.WithCodec(middleware.JSON[int16Alias]())).Get(t.Context(), "k")
	require.Error(t, err)
	require.NotContains(t, err.Error(), canary)
}

type int16Alias int16

// Numbers of one type have one length, because a length would reveal their magnitude.
func TestNumbersHideTheirMagnitude(t *testing.T) {
	t.Parallel()
	m := memory(t)
	s := sealed(t, m, keyring(t))
	for _, pair := range [][2]any{{0, math.MaxInt}, {int64(1), int64(math.MinInt64)}, {uint32(0), uint32(math.MaxUint32)}, {0.0, math.Pi}, {true, false}} {
		require.NoError(t, s.Set(t.Context(), "a", pair[0]))
		require.NoError(t, s.Set(t.Context(), "b", pair[1]))
		require.Len(t, raw(t, m, "a"), len(raw(t, m, "b")), "%T", pair[0])
	}
}

// The caller owns a returned slice, and the store does not keep a slice from Set.
func TestBytesAreNotShared(t *testing.T) {
	t.Parallel()
	for name, b := range map[string]store.StoreInterface{"memory": memory(t), "keeps slices": newPlain("go-cache"), "strings": newPlain("rueidis")} {
		s := sealed(t, b, envelope(t))
		value := []byte("untouched")
		require.NoError(t, s.Set(t.Context(), "k", value))
		require.Equal(t, "untouched", string(value), name)
		clear(value)
		for range 3 {
			got, err := s.Get(t.Context(), "k")
			require.NoError(t, err)
			require.Equal(t, "untouched", string(got.([]byte)), name)
			clear(got.([]byte))
		}
	}
}

func TestBytesAdded(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		a      tink.AEADWithContext
		budget int
	}{"keyring": {keyring(t), 41}, "envelope": {envelope(t), 107}} {
		m := memory(t)
		s := sealed(t, m, c.a, middleware.WithNamespace("n"))
		for _, size := range []int{0, 1, 64, 1 << 10, 1 << 16} {
			require.NoError(t, s.Set(t.Context(), "k", make([]byte, size)))
			added := len(raw(t, m, "n:k")) - size
			require.LessOrEqual(t, added, c.budget, "%s at %d bytes", name, size)
			require.Equal(t, map[string]int{"keyring": 39, "envelope": 105}[name], added, "FORMAT.md says so")
		}
	}
}

func TestProtoTakesNoInterface(t *testing.T) {
	t.Parallel()
	_, err := middleware.New(memory(t), keyring(t), middleware.WithCodec(middleware.Proto[proto.Message]()))
	require.ErrorContains(t, err, "not a pointer to a message")
}
