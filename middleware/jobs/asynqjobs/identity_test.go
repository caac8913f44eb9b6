package asynqjobs

import (
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/hibiken/asynq"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/middleware/internal/asynqwire"
	"github.com/sealcache/sealcache/middleware/jobs"
)

func TestClaims(t *testing.T) {
	t.Parallel()
	const id = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9"
	for want, p := range map[string]identity{
		"\x00" + "7:default" + "1:1":         {queue: "default", id: "1"},
		"\x00" + "0:" + "1:1":                {id: "1"},
		"\x01" + "7:default" + "1:1":         {queue: "default", id: "1", framed: true},
		"\x03" + "3:a:b" + "3:3:4" + "3:g:1": {queue: "a:b", id: "3:4", group: "g:1", framed: true},
		"\x04" + "1:q" + "\x0a\x1b\x2c\x3d\x4e\x5f\x60\x71\x82\x93\xa4\xb5\xc6\xd7\xe8\xf9": {queue: "q", id: id},
		"\x00" + "1:q" + "36:" + strings.ToUpper(id):                                        {queue: "q", id: strings.ToUpper(id)},
	} {
		b := p.appendClaim([]byte("value"))
		require.Equal(t, "value"+want+"\x00"+string(rune(len(want))), string(b))
		require.LessOrEqual(t, len(b)-len("value"), p.claimSize())
		value, got, err := cutClaim(b)
		require.NoError(t, err)
		require.Equal(t, p, got)
		require.Equal(t, "value", string(value))
		own, at := p.cutOwnClaim(b)
		require.Equal(t, value, own)
		require.Equal(t, p, at)
		require.Equal(t, len(own), cap(own))
		for i := range b[len("value"):] {
			b[len("value")+i] ^= 1
			own, at = p.cutOwnClaim(b)
			if i == 0 {
				require.Equal(t, p.framed, !at.framed, "only the flag differs, and the sealed value is bound to it")
			} else {
				require.Nil(t, own, "%d", i)
			}
			b[len("value")+i] ^= 1
		}
		own, _ = p.cutOwnClaim(b[len("value")+1:])
		require.Nil(t, own)
		require.Equal(t, len(value), cap(value), "what is appended to the value must not write over the claim")
	}
	for _, s := range []string{
		"", "\x00", "\x001:a", "\x001:a0:", "\x001:a1:b0:", "\x001:a1:b1:c", "\x021:a1:b", "\x021:a1:b0:", "\x021:a1:b1:cd", "\x0001:a1:b",
		"\x00-1:a1:b", "\x00+1:a1:b", "\x009:a1:b", "\x001:a1:b1", "\x0099999999999999999999:a1:b", "\x081:a1:b", "\x041:a", "\x041:a123456789abcdef",
		"\x001:a36:" + id, "\x001:a10:\x00group1:gi",
	} {
		_, _, err := cutClaim([]byte("value" + s + "\x00" + string(rune(len(s)))))
		require.ErrorIs(t, err, jobs.ErrUnauthentic, "%q", s)
	}
	for _, s := range []string{"", "\x00", "\x00\x01", "\xff\xff"} {
		_, _, err := cutClaim([]byte(s))
		require.ErrorIs(t, err, jobs.ErrUnauthentic, "%q", s)
	}
	_, err := claimOf([]byte("plaintext"), map[string]string{asynqwire.PayloadHeader: ""})
	require.ErrorIs(t, err, jobs.ErrNotSealed)
}

func FuzzClaim(f *testing.F) {
	f.Add([]byte("\x007:default1:1\x00\x0d"))
	f.Add([]byte("\xc1\x5c\x010:1:11:g\x00\x09"))
	f.Add([]byte("\x040:0123456789abcdef\x00\x13"))
	f.Fuzz(func(t *testing.T, b []byte) {
		value, p, err := cutClaim(b)
		if err == nil {
			require.Equal(t, b, p.appendClaim(value))
		} else {
			require.ErrorIs(t, err, jobs.ErrUnauthentic)
		}
	})
}

func TestLargeClaimsAreRefused(t *testing.T) {
	t.Parallel()
	s := new(sealer)
	_, err := s.sealAt(t.Context(), "t", identity{queue: "q", id: strings.Repeat("i", maxClaimBytes)}, new(frame))
	require.ErrorIs(t, err, jobs.ErrTooLarge)
}

// A member is bound to an id that a task outside the group cannot have. A payload is never bound to the id of a frame.
func TestBoundIDsNeverCollide(t *testing.T) {
	t.Parallel()
	seen := map[string]identity{}
	for _, framed := range []bool{false, true} {
		for _, g := range []string{"", "a", "1:a", "ab", "a1"} {
			for _, id := range []string{"a", "1:a", "b", "1:", "0:", "a1:", "frame", "group"} {
				p := identity{id: id, group: g, framed: framed}
				b := p.boundID()
				require.NotContains(t, seen, b, "%v and %v", seen[b], p)
				seen[b] = p
				require.Equal(t, framed || g != "", strings.HasPrefix(b, reservedID))
			}
		}
	}
}

func TestNewIDsAreUUIDs(t *testing.T) {
	t.Parallel()
	seal := func() string {
		_, opts, err := (&sealer{e: encryptorForTest(t)}).seal(t.Context(), asynq.NewTask("t", nil), nil, frame{}, false)
		require.NoError(t, err)
		id, ok := opts[len(opts)-1].Value().(string)
		require.True(t, ok)
		return id
	}
	require.Regexp(t, `^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`, seal())
	require.NotEqual(t, seal(), seal())
}

func TestUUIDsComeBack(t *testing.T) {
	t.Parallel()
	id := uuid.NewString()
	u, ok := parseUUID(id)
	require.True(t, ok)
	require.Equal(t, id, u.String())
	const good = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9"
	_, ok = parseUUID(good)
	require.True(t, ok)
	for i := range len(good) {
		for _, c := range "gG A-/:\x00\xff" {
			if s := good[:i] + string(c) + good[i+1:]; s != good {
				_, ok := parseUUID(s)
				require.False(t, ok, "%q", s)
			}
		}
	}
	for _, s := range []string{"", good[1:], good + "0", strings.ToUpper(good), "{" + good[2:] + "}", strings.ReplaceAll(good, "-", "")} {
		_, ok := parseUUID(s)
		require.False(t, ok, "%q", s)
	}
}
