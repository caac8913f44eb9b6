package storeargs_test

import (
	"errors"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/stores/internal/storeargs"
)

func TestOptions(t *testing.T) {
	t.Parallel()
	o := store.Options{Cost: 3}
	require.NoError(t, storeargs.Apply(&o, []store.Option{store.WithExpiration(time.Hour), store.WithTags([]string{"a"})}))
	require.Equal(t, store.Options{Cost: 3, Expiration: time.Hour, Tags: []string{"a"}}, o)
	require.EqualError(t, storeargs.Apply(&o, []store.Option{nil}), "a store option that the caller gave is nil")

	tags, err := storeargs.Tags([]store.InvalidateOption{store.WithInvalidateTags([]string{"a", "b"})})
	require.NoError(t, err)
	require.Equal(t, []string{"a", "b"}, tags)
	_, err = storeargs.Tags([]store.InvalidateOption{nil})
	require.EqualError(t, err, "an invalidation option that the caller gave is nil")
}

func TestKey(t *testing.T) {
	t.Parallel()
	name, err := storeargs.Key("k")
	require.NoError(t, err)
	require.Equal(t, "k", name)
	_, err = storeargs.Key(1234)
	require.EqualError(t, err, "the cache key has the type int and is not a string")
}

var errSecret = errors.New("secret")

type failing struct{}

func (failing) MarshalBinary() ([]byte, error) { return nil, errSecret }

// The error of MarshalBinary may quote the value.
func TestMarshal(t *testing.T) {
	t.Parallel()
	b, err := storeargs.Marshal(time.Time{})
	require.NoError(t, err)
	require.NotEmpty(t, b)
	_, err = storeargs.Marshal(failing{})
	require.ErrorIs(t, err, errSecret)
	require.EqualError(t, err, "MarshalBinary of storeargs_test.failing failed")
}
