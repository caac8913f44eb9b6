package middleware_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/sealcache/sealcache/middleware"
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

// While plaintext is accepted, planted bytes reach the codec. They neither end the process nor the request.
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
			require.NoError(t, err, name)
			if b, ok := v.([]byte); ok {
				require.True(t, bytes.Equal(planted, b), name)
			}
		}
	}
}

// A codec's panic is the error of the value, and its text is not shown.
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
	require.ErrorContains(t, err, "nil message")
	require.NotContains(t, err.Error(), "takes")
	err = s.Set(t.Context(), "k", structpb.Value{})
	require.ErrorContains(t, err, "takes *structpb.Value")
}
