package plaintext_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/middleware/internal/plaintext"
)

// The end is final, even if the wall clock is set back.
func TestEndIsFinal(t *testing.T) {
	t.Parallel()
	now := time.Now().Round(0) // a wall clock alone
	w := plaintext.NewWindow(plaintext.Write, now.Add(time.Hour), func() time.Time { return now })
	require.Equal(t, plaintext.Write, w.Policy())
	now = now.Add(time.Hour)
	require.Equal(t, plaintext.Reject, w.Policy())
	now = now.Add(-2 * time.Hour)
	require.Equal(t, plaintext.Reject, w.Policy())
}

// The end comes even if the wall clock was set back before anything looked at it.
func TestEndComesOnTheMonotonicClock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := plaintext.NewWindow(plaintext.Read, time.Now().Add(time.Hour), time.Now)
		time.Sleep(59 * time.Minute)
		require.Equal(t, plaintext.Read, w.Policy())
		time.Sleep(time.Minute)
		require.Equal(t, plaintext.Reject, w.Policy())
	})
}

func TestPolicies(t *testing.T) {
	t.Parallel()
	for p := plaintext.Reject; p <= plaintext.Write; p++ {
		require.True(t, p.Valid())
		require.NotContains(t, p.String(), "policy")
		require.Equal(t, p, plaintext.NewWindow(p, time.Time{}, time.Now).Policy())
	}
	require.False(t, plaintext.Policy(-1).Valid())
	require.False(t, (plaintext.Write + 1).Valid())
	require.Equal(t, "policy 9", plaintext.Policy(9).String())
}

// A text is read as the policy that prints it, and any other text is an error.
func TestPolicyText(t *testing.T) {
	t.Parallel()
	for p := plaintext.Reject; p.Valid(); p++ {
		var got plaintext.Policy
		if err := got.UnmarshalText([]byte(p.String())); err != nil || got != p {
			t.Errorf("%v is read as %v, %v", p, got, err)
		}
	}
	for _, text := range []string{"", "Reject", "accept", "policy 4"} {
		if err := new(plaintext.Policy).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}
