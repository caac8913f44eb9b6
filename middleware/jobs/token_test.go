package jobs_test

import (
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/prf"

	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware/jobs"
)

func TestTokens(t *testing.T) {
	t.Parallel()
	set := sealtest.PRF(t, 3)
	e := newEncryptor(t, jobs.WithPRF(set))
	tok, err := e.Tokens().Token("app.test", []byte("a"), []byte("b"))
	require.NoError(t, err)
	require.Regexp(t, regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`), tok.String())
	again, err := newEncryptor(t, jobs.WithPRF(set)).Tokens().Token("app.test", []byte("a"), []byte("b"))
	require.NoError(t, err)
	require.Equal(t, tok, again, "equal under any encryption key")

	all, err := e.Tokens().All("app.test", []byte("a"), []byte("b"))
	require.NoError(t, err)
	require.Len(t, all, 3)
	require.Equal(t, tok, all[0], "the primary's first")
	require.NotEqual(t, all[1], all[2])
	others, err := e.Tokens().All("app.test", []byte("a"), []byte("c"))
	require.NoError(t, err)
	for _, o := range others {
		require.NotContains(t, all, o)
	}
	other, err := newEncryptor(t, jobs.WithPRF(sealtest.PRF(t, 1))).Tokens().Token("app.test", []byte("a"), []byte("b"))
	require.NoError(t, err)
	require.NotEqual(t, tok, other, "another key, another token")
}

// Different lists of parts, domains or namespaces never give the same token.
func TestTokensNeverCollide(t *testing.T) {
	t.Parallel()
	set := sealtest.PRF(t, 1)
	seen := map[jobs.Token]bool{}
	for _, opts := range [][]jobs.Option{{}, {jobs.WithNamespace("a")}, {jobs.WithNamespace("ab")}} {
		e := newEncryptor(t, append(opts, jobs.WithPRF(set))...)
		for _, domain := range []string{"", "a", "ab"} {
			for _, parts := range [][]string{{}, {""}, {"", ""}, {"a"}, {"ab"}, {"a", "b"}, {"ab", ""}, {"", "ab"}, {"a", "", "b"}, {"\x00\x00\x00\x00\x00\x00\x00\x01a"}} {
				raw := make([][]byte, len(parts))
				for i, p := range parts {
					raw[i] = []byte(p)
				}
				tok, err := e.Tokens().Token(domain, raw...)
				require.NoError(t, err)
				require.False(t, seen[tok], "%q %q", domain, parts)
				seen[tok] = true
			}
		}
	}
}

func TestTokensNeedAPRF(t *testing.T) {
	t.Parallel()
	e := newEncryptor(t)
	require.Nil(t, e.Tokens())
	_, err := e.Tokens().Token("d")
	require.ErrorIs(t, err, jobs.ErrNoPRF)
	_, err = e.Tokens().All("d")
	require.ErrorIs(t, err, jobs.ErrNoPRF)
}

func TestShortPRFsAreRefused(t *testing.T) {
	t.Parallel()
	h, err := keyset.NewHandle(prf.AESCMACPRFKeyTemplate())
	require.NoError(t, err)
	set, err := prf.NewPRFSet(h)
	require.NoError(t, err)
	for name, s := range map[string]*prf.Set{"AES-CMAC": set, "no primary": {PrimaryID: 7}, "empty": {}} {
		_, err := jobs.NewEncryptor(sealtest.Keyring(t), jobs.WithPRF(s))
		require.ErrorContains(t, err, "WithPRF", name)
	}
}

func TestTokensUnderOldKeys(t *testing.T) {
	t.Parallel()
	m := keyset.NewManager()
	old, err := m.Add(prf.HMACSHA256PRFKeyTemplate())
	require.NoError(t, err)
	require.NoError(t, m.SetPrimary(old))
	set := func() *prf.Set {
		h, err := m.Handle()
		require.NoError(t, err)
		s, err := prf.NewPRFSet(h)
		require.NoError(t, err)
		return s
	}
	before, err := newEncryptor(t, jobs.WithPRF(set())).Tokens().Token("app.type", []byte("mail:send"))
	require.NoError(t, err)

	fresh, err := m.Add(prf.HKDFSHA256PRFKeyTemplate())
	require.NoError(t, err)
	require.NoError(t, m.SetPrimary(fresh))
	e := newEncryptor(t, jobs.WithPRF(set()))
	after, err := e.Tokens().Token("app.type", []byte("mail:send"))
	require.NoError(t, err)
	require.NotEqual(t, before, after)
	all, err := e.Tokens().All("app.type", []byte("mail:send"))
	require.NoError(t, err)
	require.Equal(t, []jobs.Token{after, before}, all)
}
