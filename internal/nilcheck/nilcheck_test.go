package nilcheck_test

import (
	"errors"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/nilcheck"
)

func TestIsNil(t *testing.T) {
	t.Parallel()
	var reader io.Reader
	for _, v := range []any{nil, reader, (*int)(nil), map[string]int(nil), (func())(nil), (chan int)(nil), []byte(nil)} {
		require.True(t, nilcheck.IsNil(v), "%T", v)
	}
	for _, v := range []any{0, "", new(int), map[string]int{}, func() {}, make(chan int), []byte{}, errors.New("x"), struct{}{}} {
		require.False(t, nilcheck.IsNil(v), "%T", v)
	}
}
