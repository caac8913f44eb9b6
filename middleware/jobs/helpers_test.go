package jobs_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware/jobs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newEncryptor returns an Encryptor with these options only.
func newEncryptor(t testing.TB, opts ...jobs.Option) *jobs.Encryptor {
	t.Helper()
	e, err := jobs.NewEncryptor(sealtest.Keyring(t), opts...)
	require.NoError(t, err)
	return e
}
