package redistest

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/redis/go-redis/v9"
)

// Shared is a server and a Cluster for all tests of a package. Each test uses a separate database or prefix.
type Shared struct {
	Single  *Server
	Cluster *Cluster
}

// Run starts the servers, runs the tests of m, and closes the servers. It returns the exit code of the tests.
func (s *Shared) Run(m *testing.M) (code int) {
	ctx := context.Background()
	var err error
	if s.Single, err = Run(ctx, Options{Args: []string{"--databases", "200"}}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = s.Single.Close() }()
	if s.Cluster, err = RunCluster(ctx, Options{}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = s.Cluster.Close() }()
	return m.Run()
}

// On runs a test over the single server and over the Cluster, in parallel.
func (s *Shared) On(t *testing.T, test func(t *testing.T, rdb redis.UniversalClient)) {
	t.Helper()
	t.Parallel()
	for name, client := range map[string]func(t testing.TB) redis.UniversalClient{
		"single":  func(t testing.TB) redis.UniversalClient { t.Helper(); return s.Single.Client(t) },
		"cluster": func(t testing.TB) redis.UniversalClient { t.Helper(); return s.Cluster.Client(t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, client(t))
		})
	}
}

// SilenceClients stops the log of go-redis, for tests that cause faults.
func SilenceClients() { redis.SetLogger(silent{}) }

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}
