package asynqjobs

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/hibiken/asynq"
	"github.com/stretchr/testify/require"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/middleware/jobs"
)

func TestLongErrorTextsAreCutAtACharacter(t *testing.T) {
	t.Parallel()
	e, at := encryptorForTest(t), identity{queue: "q", id: "1"}
	for _, text := range []string{"short", "x" + strings.Repeat("ä", maxFailureBytes)} {
		s, err := openFailure(t.Context(), e, "t", at, sealFailure(t.Context(), e, "t", at, text))
		require.NoError(t, err)
		if len(text) <= maxFailureBytes {
			require.Equal(t, text, s)
			continue
		}
		require.True(t, strings.HasPrefix(s, "xää"))
		require.Less(t, len(s), maxFailureBytes+50)
		require.True(t, utf8.ValidString(s))
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	for err, want := range map[error]Reason{
		jobs.ErrNotSealed:             ReasonNotSealed,
		jobs.ErrUnauthentic:           ReasonUnauthentic,
		jobs.ErrUnsupportedFormat:     ReasonUnsupportedFormat,
		jobs.ErrTooLarge:              ReasonTooLarge,
		jobs.ErrUnknownKey:            ReasonUnknownKey,
		jobs.ErrKeyServiceUnavailable: ReasonKeyServiceUnavailable,
		errors.New("other"):           ReasonOther,
	} {
		r := refusal(fmt.Errorf("%w: https://vault.internal:8200 \xff", err))
		require.Equal(t, want, r.Reason)
		require.ErrorIs(t, r, err)
		require.NotContains(t, r.Error(), "vault", "the words of a key service are not for Redis")
		require.True(t, utf8.ValidString(r.Error()))
		require.Less(t, len(r.Error()), 200)
		require.Equal(t, jobs.Permanent(err), errors.Is(r, asynq.SkipRetry), want)
		got, ok := ReasonOf(&asynq.TaskInfo{LastErr: r.Error()})
		require.True(t, ok)
		require.Equal(t, want, got)
	}
	missing := refusal(fmt.Errorf("open: %w", &aead.KeyError{KeyID: 4711, Status: keyset.Disabled}))
	require.Equal(t, ReasonKeyRemoved, missing.Reason)
	require.Contains(t, missing.Error(), "[key_removed key=4711]")
	for _, text := range []string{"", "some error", "sealcache: refused: "} {
		_, ok := ReasonOf(&asynq.TaskInfo{LastErr: text})
		require.False(t, ok)
	}
	_, ok := ReasonOf(nil)
	require.False(t, ok)
}

// contextAEAD is a keyring that fails if ctx has ended, as an AEAD that asks a key service does.
type contextAEAD struct{ *aead.Keyring }

func (p contextAEAD) SealTo(ctx context.Context, dst, plaintext, ad []byte) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return p.Keyring.SealTo(ctx, dst, plaintext, ad)
}

// The text of an error is sealed although the task's time is over, for that may be the error; and it is cut.
func TestFailuresAreSealedWhenTimeIsOver(t *testing.T) {
	t.Parallel()
	h, err := keyset.NewHandle(tinkaead.AES256GCMKeyTemplate())
	require.NoError(t, err)
	k, err := aead.NewKeyring(h)
	require.NoError(t, err)
	e, err := jobs.NewEncryptor(contextAEAD{k})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p := identity{queue: "default", id: "1"}
	text, err := openFailure(t.Context(), e, "t", p, sealFailure(ctx, e, "t", p, strings.Repeat("x", 10*maxFailureBytes)))
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(text, "xxx"))
	require.Less(t, len(text), maxFailureBytes+100)
}
