package migrate

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/sealcache/sealcache/aead"
)

// What lies in a queue's hashes may be anything.
func FuzzParseMessage(f *testing.F) {
	good := protowire.AppendTag(nil, 1, protowire.BytesType)
	good = protowire.AppendString(good, "type")
	good = protowire.AppendTag(good, taskPayload, protowire.BytesType)
	good = protowire.AppendString(good, "payload")
	good = protowire.AppendTag(good, 5, protowire.VarintType)
	good = protowire.AppendVarint(good, 25)
	pair := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), "k")
	pair = protowire.AppendString(protowire.AppendTag(pair, 2, protowire.BytesType), "v")
	good = protowire.AppendBytes(protowire.AppendTag(good, taskHeaders, protowire.BytesType), pair)
	f.Add(good)
	f.Add([]byte{})
	f.Add([]byte{0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseMessage(b, taskPayload, taskError, taskHeaders)
		if err == nil {
			require.LessOrEqual(t, len(m.payload)+len(m.failure), len(b))
		}
		var found findings
		found.job(&found.jobs.Payloads, b, m.headers)
		found.failure(string(b))
	})
}

func TestParseMessage(t *testing.T) {
	t.Parallel()
	b := protowire.AppendString(protowire.AppendTag(nil, taskPayload, protowire.BytesType), "payload")
	b = protowire.AppendString(protowire.AppendTag(b, taskError, protowire.BytesType), "reason")
	m, err := parseMessage(b, taskPayload, taskError, taskHeaders)
	require.NoError(t, err)
	require.Equal(t, "payload", string(m.payload))
	require.Equal(t, "reason", m.failure)
	for i := 1; i < len(b); i++ {
		if i != 9 { // between the two fields
			_, err := parseMessage(b[:i], taskPayload, taskError, taskHeaders)
			require.Error(t, err, i)
		}
	}
}

// A checkpoint may be anything, too, and what is written can be read.
func FuzzCheckpoint(f *testing.F) {
	c := checkpoint{Format: checkpointFormat, Job: "job", Positions: map[string]position{"run": {Cursor: 1 << 63, Done: true}}, Started: time.Unix(1, 0).UTC()}
	good, err := json.Marshal(c)
	require.NoError(f, err)
	f.Add(good)
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := parseCheckpoint(b, "job")
		if err != nil {
			require.ErrorIs(t, err, ErrCheckpoint)
			return
		}
		one, err := json.Marshal(got)
		require.NoError(t, err)
		again, err := parseCheckpoint(one, "job")
		require.NoError(t, err)
		two, err := json.Marshal(again)
		require.NoError(t, err)
		require.JSONEq(t, string(one), string(two))
	})
}

// Rate and remaining time follow the run, and say nothing before there is something to say.
func TestPace(t *testing.T) {
	t.Parallel()
	var p pace
	rate, left := p.at(0, 0, 0)
	require.Zero(t, rate)
	require.Zero(t, left)
	for i := 1; i <= 10; i++ {
		rate, left = p.at(time.Duration(i)*time.Second, int64(i)*1000, float64(i)/100)
	}
	require.InDelta(t, 1000, rate, 1)
	require.InDelta(t, 90*time.Second, left, float64(time.Second))
}

// The position of a cursor, by the reversed bits that Redis counts in.
func TestFraction(t *testing.T) {
	t.Parallel()
	w := &walk[int]{tracks: []*track[int]{{cursor: 0}, {done: true}}}
	require.InDelta(t, 0.5, w.fraction(), 1e-9)
	for i, cursor := range []uint64{0, 4, 2, 6, 1, 5, 3, 7} { // a table of eight buckets, in the order of a scan
		w := &walk[int]{tracks: []*track[int]{{cursor: cursor}}}
		require.InDelta(t, float64(i)/8, w.fraction(), 1e-9)
	}
	require.Zero(t, (&walk[int]{}).fraction())
}

func TestLocate(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		from    Space
		to      *Space
		name    string
		verdict nameVerdict
		want    place
	}{
		{Space{}, nil, "k", nameTaken, place{"k", "k", "k"}},
		{Space{Namespace: "n"}, nil, "n:k", nameTaken, place{"k", "k", "n:k"}},
		{Space{Namespace: "n"}, nil, "m:k", nameForeign, place{}},
		{Space{Namespace: "n", Prefix: "u:"}, &Space{Namespace: "m", Prefix: "v:"}, "n:u:1", nameTaken, place{"u:1", "v:1", "m:v:1"}},
		{Space{}, &Space{Namespace: "n"}, "k", nameTaken, place{"k", "k", "n:k"}},
		{Space{}, &Space{Namespace: "n"}, "n:k", nameArrived, place{}},
		{Space{Prefix: "n:"}, &Space{Namespace: "n"}, "n:k", nameTaken, place{"n:k", "k", "n:k"}},
		{Space{Namespace: "n"}, &Space{}, "n:n:k", nameTwisted, place{}},
		{Space{}, nil, "asynq:{q}:t:1", nameExcluded, place{}},
		{Space{}, nil, "count:1", nameExcluded, place{}},
	} {
		config := Config{From: c.from, To: c.to, Exclude: []string{"count:"}}
		got, verdict := config.locate(c.name)
		require.Equal(t, c.verdict, verdict, c.name)
		if verdict == nameTaken {
			require.Equal(t, c.want, got)
		}
	}
}

// No text repeats what Redis quotes of commands.
func TestErrorsWithoutNames(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"ERR unknown command 'x', with args beginning with: 'secret'",
		"NOPERM User app has no permissions to access the 'secret' key",
		`redis: can't parse reply="secret"`,
	} {
		err := withoutNames(&shortened{text: text})
		require.False(t, strings.Contains(err.Error(), "secret"), err)
	}
}

// A run that meets sealed entries late, and can open none, ends before it has done more harm.
func TestNothingOpensLate(t *testing.T) {
	t.Parallel()
	h, err := keyset.NewHandle(tinkaead.AES256GCMKeyTemplate())
	require.NoError(t, err)
	keys, err := aead.NewKeyring(h)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, keys.Close()) })
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:0"})
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	for _, c := range []struct {
		counts Counts
		allow  bool
		ends   bool
	}{
		{Counts{UnknownKey: canaryMost - 1}, false, false},
		{Counts{UnknownKey: canaryMost - 1, Unreadable: 1}, false, true},
		{Counts{UnknownKey: canaryMost, Opened: canaryMost}, false, false},
		{Counts{UnknownKey: canaryMost, Opened: canaryMost - 1}, false, true}, // it may have written itself what opened
		{Counts{UnknownKey: canaryMost}, true, false},
	} {
		m, err := newMigration(t.Context(), client, Config{Operation: Seal, Keys: keys, AllowUnopened: c.allow})
		require.NoError(t, err)
		var cause error
		m.cancel = func(err error) { cause = err }
		m.walk.commit(&c.counts)
		require.Equal(t, c.ends, errors.Is(cause, ErrNothingOpens))
	}
}
