package rediswalk

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// No text repeats what Redis quotes of commands.
func TestErrorsWithoutNames(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"ERR unknown command 'x', with args beginning with: 'secret'",
		"NOPERM User app has no permissions to access the 'secret' key",
		`redis: can't parse reply="secret"`,
	} {
		err := WithoutNames(errors.New(text))
		require.False(t, strings.Contains(err.Error(), "secret"), err)
	}
}
