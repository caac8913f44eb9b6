package asynqjobs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/hibiken/asynq"
	"github.com/stretchr/testify/require"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/middleware/internal/wire"
	"github.com/sealcache/sealcache/middleware/jobs"
)

func TestBakedOptionsAreFound(t *testing.T) {
	t.Parallel()
	require.NoError(t, proveBakedOptions())
	now := time.Now()
	want := []asynq.Option{
		asynq.MaxRetry(3), asynq.Queue("q"), asynq.Timeout(time.Minute), asynq.Deadline(now), asynq.Unique(time.Hour),
		asynq.ProcessAt(now), asynq.ProcessIn(time.Second), asynq.TaskID("id"), asynq.Retention(time.Hour), asynq.Group("g"),
	}
	task := asynq.NewTask("type", nil, want...)
	got, err := bakedOptions(task)
	require.NoError(t, err)
	require.Equal(t, want, got)
	got[0] = asynq.MaxRetry(99)
	again, err := bakedOptions(task)
	require.NoError(t, err)
	require.Equal(t, want, again, "the task's own are not touched")
	none, err := bakedOptions(asynq.NewTaskWithHeaders("type", nil, map[string]string{"a": "b"}))
	require.NoError(t, err)
	require.Empty(t, none)
}

func TestChooseReadsOptionsAsAsynqDoes(t *testing.T) {
	t.Parallel()
	c, err := choose([]asynq.Option{asynq.Queue("a"), nil, asynq.TaskID("1"), asynq.Queue("b"), asynq.TaskID("2"), asynq.Group("g"), asynq.Unique(time.Hour)})
	require.NoError(t, err)
	require.Equal(t, chosen{place: place{queue: "b", id: "2", group: "g"}, unique: true, hasID: true}, c)
	c, err = choose(nil)
	require.NoError(t, err)
	require.Equal(t, chosen{place: place{queue: "default"}}, c)
	_, err = choose([]asynq.Option{strange{}})
	require.Error(t, err, "asynq would ignore it, and the task would be bound to a queue that it is not in")
	_, err = storeOption(strange{})
	require.Error(t, err)
}

type strange struct{}

func (strange) String() string         { return "strange" }
func (strange) Type() asynq.OptionType { return asynq.QueueOpt }
func (strange) Value() any             { return "low" }

func TestFramesComeBack(t *testing.T) {
	t.Parallel()
	for _, f := range []frame{
		{},
		{payload: []byte("payload")},
		{name: "mail:send", payload: []byte{0}},
		{headers: map[string]string{"b": "2", "a": "1", "": ""}, unique: true, tag: [32]byte{31: 7}},
		{refused: []member{{typename: "t", payload: []byte("p"), headers: map[string]string{"h": "v"}}, {}}, payload: []byte("x")},
		{nothing: true, refused: []member{{typename: "t"}}},
		{nothing: true, lost: 3},
		{lost: 1, payload: []byte("x"), refused: []member{{}}},
	} {
		b := f.append(nil)
		require.LessOrEqual(t, len(b), f.size())
		got, err := parseFrame(b)
		require.NoError(t, err)
		require.Equal(t, f.name, got.name)
		require.Equal(t, f.headers, got.headers)
		require.Equal(t, f.unique, got.unique)
		require.Equal(t, f.tag, got.tag)
		require.Equal(t, f.lost, got.lost)
		require.Equal(t, f.nothing, got.nothing)
		require.Len(t, got.refused, len(f.refused))
		require.True(t, bytes.Equal(f.payload, got.payload))
		require.Equal(t, b, got.append(nil), "one form only")
	}
}

func TestMalformedFramesAreRefused(t *testing.T) {
	t.Parallel()
	for name, b := range map[string]string{
		"nothing":               "",
		"unknown flag":          "\x40",
		"name cut":              "\x01\x00\x00\x00\x05abc",
		"name empty":            "\x01\x00\x00\x00\x00",
		"name length cut":       "\x01\x00\x00",
		"name of 4 GiB":         "\x01\xff\xff\xff\xff",
		"no headers":            "\x02\x00\x00\x00\x00",
		"headers by the bilion": "\x02\xff\xff\xff\xff",
		"headers out of order":  "\x02\x00\x00\x00\x02\x00\x00\x00\x01b\x00\x00\x00\x00\x00\x00\x00\x01a\x00\x00\x00\x00",
		"a header twice":        "\x02\x00\x00\x00\x02\x00\x00\x00\x01a\x00\x00\x00\x00\x00\x00\x00\x01a\x00\x00\x00\x00",
		"no members":            "\x08\x00\x00\x00\x00",
		"tag cut":               "\x04" + strings.Repeat("t", 31),
		"none lost":             "\x20\x00\x00\x00\x00",
		"lost cut":              "\x20\x00\x00\x01",
	} {
		_, err := parseFrame([]byte(b))
		require.ErrorIs(t, err, jobs.ErrUnsupportedFormat, name)
	}
}

func FuzzFrame(f *testing.F) {
	for _, fr := range []frame{{payload: []byte("p")}, {unique: true, lost: 1}, {name: "n", headers: map[string]string{"a": "b"}}, {nothing: true, refused: []member{{typename: "t"}}}} {
		f.Add(fr.append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		fr, err := parseFrame(b)
		if err != nil {
			require.ErrorIs(t, err, jobs.ErrUnsupportedFormat)
			return
		}
		require.Equal(t, b, fr.append(nil))
	})
}

func TestClaims(t *testing.T) {
	t.Parallel()
	const uuid = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9"
	for want, p := range map[string]place{
		"\x00" + "7:default" + "1:1":         {queue: "default", id: "1"},
		"\x00" + "0:" + "1:1":                {id: "1"},
		"\x01" + "7:default" + "1:1":         {queue: "default", id: "1", framed: true},
		"\x03" + "3:a:b" + "3:3:4" + "3:g:1": {queue: "a:b", id: "3:4", group: "g:1", framed: true},
		"\x04" + "1:q" + "\x0a\x1b\x2c\x3d\x4e\x5f\x60\x71\x82\x93\xa4\xb5\xc6\xd7\xe8\xf9": {queue: "q", id: uuid},
		"\x00" + "1:q" + "36:" + strings.ToUpper(uuid):                                      {queue: "q", id: strings.ToUpper(uuid)},
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
				require.Equal(t, p.framed, !at.framed, "only the flag is another, and what is sealed is bound to it")
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
		"\x001:a36:" + uuid, "\x001:a10:\x00group1:gi",
	} {
		_, _, err := cutClaim([]byte("value" + s + "\x00" + string(rune(len(s)))))
		require.ErrorIs(t, err, jobs.ErrUnauthentic, "%q", s)
	}
	for _, s := range []string{"", "\x00", "\x00\x01", "\xff\xff"} {
		_, _, err := cutClaim([]byte(s))
		require.ErrorIs(t, err, jobs.ErrUnauthentic, "%q", s)
	}
	_, err := claimed([]byte("in clear"), map[string]string{payloadHeader: ""})
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
	_, err := s.sealAt(t.Context(), "t", place{queue: "q", id: strings.Repeat("i", maxClaimBytes)}, new(frame))
	require.ErrorIs(t, err, jobs.ErrTooLarge)
}

// No task outside a group, and none of another group, can have the id that a member is bound to, and no payload is bound
// to the id of a frame.
func TestBoundIDsNeverCollide(t *testing.T) {
	t.Parallel()
	seen := map[string]place{}
	for _, framed := range []bool{false, true} {
		for _, g := range []string{"", "a", "1:a", "ab", "a1"} {
			for _, id := range []string{"a", "1:a", "b", "1:", "0:", "a1:", "frame", "group"} {
				p := place{id: id, group: g, framed: framed}
				b := p.boundID()
				require.NotContains(t, seen, b, "%v and %v", seen[b], p)
				seen[b] = p
				require.Equal(t, framed || g != "", strings.HasPrefix(b, reservedID))
			}
		}
	}
}

func TestDue(t *testing.T) {
	t.Parallel()
	at := func(s string) time.Time {
		x, err := time.Parse("2006-01-02 15:04:05", "2026-01-"+s)
		require.NoError(t, err)
		return x
	}
	for name, c := range map[string]struct {
		spec      Schedule
		last, now string
		catchUp   time.Duration
		want      []string
	}{
		"not yet":                       {Every(time.Minute), "01 00:00:00", "01 00:00:59", time.Minute, nil},
		"to the second":                 {Every(time.Minute), "01 00:00:00", "01 00:01:00", time.Minute, []string{"01 00:01:00"}},
		"not twice":                     {Every(time.Minute), "01 00:01:00", "01 00:01:30", time.Minute, nil},
		"all of the last minute":        {Every(20 * time.Second), "01 00:00:00", "01 01:00:00", time.Minute, []string{"01 00:59:20", "01 00:59:40", "01 01:00:00"}},
		"the latest of those long ago":  {Every(time.Hour), "01 00:00:00", "02 00:10:00", time.Minute, []string{"02 00:00:00"}},
		"the latest only":               {Every(20 * time.Second), "01 00:00:00", "01 01:00:00", time.Nanosecond, []string{"01 01:00:00"}},
		"cron":                          {Cron("30 4 * * *"), "01 05:00:00", "02 04:30:00", time.Minute, []string{"02 04:30:00"}},
		"cron long ago":                 {Cron("30 4 * * *"), "01 05:00:00", "20 04:00:00", time.Minute, []string{"19 04:30:00"}},
		"cron not yet":                  {Cron("30 4 * * *"), "02 04:30:00", "03 04:29:59", time.Minute, nil},
		"cron with a zone":              {Cron("CRON_TZ=Asia/Tokyo 0 9 * * *"), "01 01:00:00", "02 00:00:00", time.Minute, []string{"02 00:00:00"}},
		"a year of seconds, bounded":    {Every(time.Second), "01 00:00:00", "31 00:00:00", time.Minute, nil},
		"last tick off the grid":        {Every(time.Minute), "01 00:01:07", "01 00:02:00", time.Minute, []string{"01 00:02:00"}},
		"every as an expression":        {Cron("@every 1m"), "01 00:00:00", "01 00:01:00", time.Minute, []string{"01 00:01:00"}},
		"hourly, late, nothing between": {Cron("@hourly"), "01 00:00:00", "01 01:59:59", time.Minute, []string{"01 01:00:00"}},
	} {
		tk, err := c.spec.parse(at("01 00:00:00"))
		require.NoError(t, err, name)
		ticks := due(tk, at(c.last), at(c.now), c.catchUp)
		if name == "a year of seconds, bounded" {
			require.Len(t, ticks, 60)
			continue
		}
		var got []string
		for _, x := range ticks {
			got = append(got, x.UTC().Format("02 15:04:05"))
		}
		require.Equal(t, c.want, got, name)
	}
}

// Clocks go back from 03:00 to 02:00 and forward from 02:00 to 03:00.
func TestSchedulesWhenClocksAreChanged(t *testing.T) {
	t.Parallel()
	night := func(day string, spec Schedule) []string {
		from, err := time.Parse("2006-01-02 15:04", "2026-"+day+" 22:00")
		require.NoError(t, err)
		tk, err := spec.parse(from)
		require.NoError(t, err)
		var got []string
		for x := tk.next(from); x.Before(from.Add(6 * time.Hour)); x = tk.next(x) {
			got = append(got, x.UTC().Format("15:04"))
		}
		return got
	}
	const zone = "CRON_TZ=Europe/Berlin "
	require.Equal(t, []string{"00:30"}, night("10-24", Cron(zone+"30 2 * * *")), "once, the first time")
	require.Equal(t, []string{"00:00", "00:20", "00:40"}, night("10-24", Cron(zone+"*/20 2 * * *")))
	require.Equal(t, []string{"00:30", "02:30"}, night("10-24", Cron(zone+"30 2,3 * * *")), "03:30 comes once")
	require.Equal(t, []string{"22:30", "23:30", "00:30", "01:30", "02:30", "03:30"}, night("10-24", Cron(zone+"30 * * * *")), "each hour is an hour")
	require.Empty(t, night("03-28", Cron(zone+"30 2 * * *")), "there is none")
	require.Equal(t, []string{"01:30"}, night("03-28", Cron(zone+"30 3 * * *")))
	require.Equal(t, []string{"02:30"}, night("10-24", Cron("30 2 * * *")), "UTC")
}

func TestUnderSameKey(t *testing.T) {
	t.Parallel()
	header := "\xc1\x5c\x01\x05\x01\x00"
	_, n, err := wire.Parse([]byte(header + "body"))
	require.NoError(t, err)
	require.Equal(t, len(header), n)
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"\x01abcd1", "\x01abcd2", true},
		{"\x01abcd1", "\x01abce1", false},
		{"\x00\x00\x00\x09\x01abcd1", "\x00\x00\x00\x09\x01abcd2", true},
		{"\x00\x00\x00\x09\x01abcd1", "\x00\x00\x00\x09\x01abce1", false},
		{"\x00\x00\x00\x09\x01abcd1", "\x01abcd1", true},
		{"\x00\x00\x00\x09vault1", "\x00\x00\x00\x09vault2", true},
		{"\x00", "\x01", true},
	} {
		require.Equal(t, c.same, underSameKey(header+c.a, header+c.b), "%q %q", c.a, c.b)
	}
}

func TestSchedulesThatNeverWork(t *testing.T) {
	t.Parallel()
	for _, s := range []Schedule{{}, Every(0), Every(-time.Second), Every(999 * time.Millisecond), Every(time.Second + time.Microsecond), Cron(""), Cron("x"), Cron("* * * *"), Cron("@every 1"), Cron("0 0 31 2 *"), Cron("CRON_TZ=UTC @every 1h"), Cron("TZ=UTC @every 1h")} {
		_, err := s.parse(time.Now())
		require.Error(t, err, "%q", s)
	}
}

func TestShortenedAtACharacter(t *testing.T) {
	t.Parallel()
	require.Equal(t, "short", shortened("short"))
	s := shortened(strings.Repeat("ä", maxFailureBytes))
	require.True(t, strings.HasPrefix(s, "ää"))
	require.Less(t, len(s), maxFailureBytes+50)
	require.Equal(t, s, strings.ToValidUTF8(s, "?"))
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
	require.True(t, strings.HasSuffix(missing.Error(), ": key 4711"), missing.Error())
	for _, text := range []string{"", "some error", "sealcache: refused: "} {
		_, ok := ReasonOf(&asynq.TaskInfo{LastErr: text})
		require.False(t, ok)
	}
	_, ok := ReasonOf(nil)
	require.False(t, ok)
}

func TestNewIDsAreUUIDs(t *testing.T) {
	t.Parallel()
	require.Regexp(t, `^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`, newID())
	require.NotEqual(t, newID(), newID())
}

func TestUUIDsComeBack(t *testing.T) {
	t.Parallel()
	id := newID()
	b, ok := parseUUID(id)
	require.True(t, ok)
	require.Equal(t, id, formatUUID(b))
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

func TestOnlyQueue(t *testing.T) {
	t.Parallel()
	require.Equal(t, "default", onlyQueue(nil))
	require.Equal(t, "a", onlyQueue(map[string]int{"a": 1, "b": 0}))
	require.Equal(t, "", onlyQueue(map[string]int{"a": 1, "b": 2}))
}

// punctual is an AEAD that looks at ctx, as one that asks a key service does.
type punctual struct{ *aead.Keyring }

func (p punctual) SealTo(ctx context.Context, dst, plaintext, ad []byte) ([]byte, error) {
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
	e, err := jobs.NewEncryptor(punctual{k})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p := place{queue: "default", id: "1"}
	text, err := openFailure(t.Context(), e, "t", p, sealFailure(ctx, e, "t", p, strings.Repeat("x", 10*maxFailureBytes)))
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(text, "xxx"))
	require.Less(t, len(text), maxFailureBytes+100)
}

func TestCutPanic(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"panic error cause by: panic [/a b/handler.go:7]: ": "panic error cause by: ",
		"panic [/handler.go:7]: x":                          "x",
		"panic: ":                                           "panic: ",
		"panic error cause by: panic: ":                     "panic error cause by: panic: ",
		"panic [":                                           "panic [",
		"text panic [x]: ":                                  "text panic [x]: ",
		"":                                                  "",
	} {
		require.Equal(t, want, cutPanic(text))
	}
}
