package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/benchmarks/internal/steps"
)

// Every library seals, opens and stores what it is given, in the smallest form of the program. Speed is not tested.
func TestEveryRival(t *testing.T) {
	var stdout, stderr bytes.Buffer
	require.Zero(t, run(t.Context(), []string{"-smallest"}, &stdout, &stderr), stderr.String())
	for _, rival := range []string{
		"Tink, KMSEnvelopeAEAD", "Tink, keyset", "fernet-go", "go-kms-wrapping", "Kubernetes KMSv2", "gocache redis marshaler",
		"gocache rueidis", "predecessor",
	} {
		require.Contains(t, stdout.String(), rival)
	}
	require.Greater(t, strings.Count(stdout.String(), "\n"), 40)
	if !strings.Contains(stdout.String(), "skipped") {
		require.Contains(t, stdout.String(), "django-rq")
		require.Regexp(t, `262144 B, 1 client +predecessor .* >= 6 (ok|MISSED) `, stdout.String())
	}
}

func TestArguments(t *testing.T) {
	var stdout, stderr bytes.Buffer
	require.Equal(t, 2, run(t.Context(), []string{"argument"}, &stdout, &stderr))
	require.Empty(t, stdout)
}

// A Python without django-redis is told, and is not a failure.
func TestPredecessorThatIsNotInstalled(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, steps.Run(func(s *steps.Steps) {
		comparePredecessor(t.Context(), &comparison{s, extent{1, 1}, &out}, "/nonexistent/python")
	}))
	require.Contains(t, out.String(), "skipped")
}
