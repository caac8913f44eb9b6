package options_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/options"
)

type config struct{ applied []string }

type option func(*config) error

func (o option) apply(c *config) error { return o(c) }

func named(name string) option {
	return func(c *config) error {
		c.applied = append(c.applied, name)
		return nil
	}
}

// All options are applied in order, and all errors are joined.
func TestApply(t *testing.T) {
	t.Parallel()
	broken, other := errors.New("broken"), errors.New("other")
	var c config
	apply := func(o option) error { return o(&c) }
	require.NoError(t, options.Apply("", nil, apply))
	require.NoError(t, options.Apply("", []option{named("a"), named("b")}, apply))
	require.Equal(t, []string{"a", "b"}, c.applied)

	err := options.Apply("pkg: New: ", []option{
		func(*config) error { return broken }, nil, named("c"), func(*config) error { return other },
	}, apply)
	require.ErrorIs(t, err, broken)
	require.ErrorIs(t, err, other)
	require.EqualError(t, err, "broken\npkg: New: option 2 of 4 is nil\nother")
	require.Equal(t, []string{"a", "b", "c"}, c.applied)
}

// An interface that holds a nil function is a nil option too.
func TestApplyInterfaces(t *testing.T) {
	t.Parallel()
	type applier interface{ apply(*config) error }
	var c config
	err := options.Apply("", []applier{named("a"), option(nil)}, func(o applier) error { return o.apply(&c) })
	require.EqualError(t, err, "option 2 of 2 is nil")
	require.Equal(t, []string{"a"}, c.applied)
}
