package asynqjobs

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/prf"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware/internal/asynqwire"
	"github.com/sealcache/sealcache/middleware/jobs"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// newTestStore is a store whose Redis has a clock that stands at noon, and the schedule that is in it.
func newTestStore(t *testing.T) (*scheduleStore, entry) {
	t.Helper()
	m := miniredis.RunT(t)
	m.SetTime(noon)
	rdb := redis.NewClient(&redis.Options{Addr: m.Addr()})
	t.Cleanup(func() { _ = rdb.Close() })
	h, err := keyset.NewHandle(tinkaead.AES256GCMKeyTemplate())
	require.NoError(t, err)
	k, err := aead.NewKeyring(h)
	require.NoError(t, err)
	h, err = keyset.NewHandle(prf.HMACSHA256PRFKeyTemplate())
	require.NoError(t, err)
	set, err := prf.NewPRFSet(h)
	require.NoError(t, err)
	e, err := jobs.NewEncryptor(k, jobs.WithPRF(set))
	require.NoError(t, err)
	s := newScheduleStore(rdb, e)
	d, err := newDefinition("a", Every(time.Minute), asynq.NewTask("t", nil), nil, noon)
	require.NoError(t, err)
	en, err := s.seal(t.Context(), d, noon)
	require.NoError(t, err)
	ok, _, _, err := s.swap(t.Context(), nil, en, time.Time{})
	require.NoError(t, err)
	require.True(t, ok)
	return s, en
}

func (s *scheduleStore) noted(t *testing.T, field string) string {
	t.Helper()
	return s.rdb.HGet(t.Context(), s.ticks, field).Val()
}

// A tick may be noted while its schedule is being replaced: the later one stays, but for what no clock says.
func TestSwapKeepsALaterTick(t *testing.T) {
	t.Parallel()
	ms := func(d time.Duration) string { return strconv.FormatInt(noon.Add(d).UnixMilli(), 10) }
	for noted, want := range map[string]string{
		"":                       ms(-time.Minute),
		ms(-time.Hour):           ms(-time.Minute),
		ms(-30 * time.Second):    ms(-30 * time.Second),
		ms(10 * 24 * time.Hour):  ms(-time.Minute),
		"99999999999999999999":   ms(-time.Minute),
		"not a number, but text": ms(-time.Minute),
	} {
		s, en := newTestStore(t)
		if noted != "" {
			require.NoError(t, s.rdb.HSet(t.Context(), s.ticks, en.field, noted).Err())
		}
		fresh, err := s.sealAs(t.Context(), en.field, en.def, noon)
		require.NoError(t, err)
		ok, before, after, err := s.swap(t.Context(), []entry{en}, fresh, noon.Add(-time.Minute))
		require.NoError(t, err)
		require.True(t, ok)
		require.NotEqual(t, before, after)
		require.Equal(t, after, s.noted(t, asynqwire.VersionField))
		require.Equal(t, want, s.noted(t, en.field), noted)
	}
}

func TestSwapChangesNothingElse(t *testing.T) {
	t.Parallel()
	s, en := newTestStore(t)
	version := s.noted(t, asynqwire.VersionField)
	other := en
	other.raw += "x"
	ok, _, _, err := s.swap(t.Context(), []entry{other}, entry{}, time.Time{})
	require.NoError(t, err)
	require.False(t, ok)
	require.Equal(t, version, s.noted(t, asynqwire.VersionField))
	require.True(t, s.is(t.Context(), en))
	require.False(t, s.is(t.Context(), other))
}

// A scheduler that was held up does not note a tick of a schedule that has been replaced or ended.
func TestTicksOfReplacedSchedulesAreNotNoted(t *testing.T) {
	t.Parallel()
	s, en := newTestStore(t)
	fresh, err := s.sealAs(t.Context(), en.field, en.def, noon)
	require.NoError(t, err)
	ok, _, _, err := s.swap(t.Context(), []entry{en}, fresh, time.Time{})
	require.NoError(t, err)
	require.True(t, ok)
	require.NoError(t, s.advance(t.Context(), en, time.Time{}, noon))
	require.Empty(t, s.noted(t, en.field))
	require.NoError(t, s.advance(t.Context(), fresh, time.Time{}, noon))
	require.Equal(t, strconv.FormatInt(noon.UnixMilli(), 10), s.noted(t, en.field))
	require.NoError(t, s.advance(t.Context(), fresh, time.Time{}, noon.Add(-time.Minute)))
	require.Equal(t, strconv.FormatInt(noon.UnixMilli(), 10), s.noted(t, en.field), "ticks do not go back")
	ok, _, _, err = s.swap(t.Context(), []entry{fresh}, entry{}, time.Time{})
	require.NoError(t, err)
	require.True(t, ok)
	require.NoError(t, s.advance(t.Context(), fresh, time.Time{}, noon))
	require.Empty(t, s.noted(t, en.field))
}

// A tick is not noted on a server that lacks the tick before it. It would hide that this one must be enqueued again.
func TestTickAfterALostOneIsNotNoted(t *testing.T) {
	t.Parallel()
	s, en := newTestStore(t)
	at := func(minutes int) time.Time { return noon.Add(time.Duration(minutes) * time.Minute) }
	text := func(minutes int) string { return strconv.FormatInt(at(minutes).UnixMilli(), 10) }
	require.NoError(t, s.advance(t.Context(), en, at(0), at(1)))
	require.Empty(t, s.noted(t, en.field), "nothing is noted there")
	require.NoError(t, s.advance(t.Context(), en, time.Time{}, at(0)))
	require.Equal(t, text(0), s.noted(t, en.field))
	require.NoError(t, s.advance(t.Context(), en, at(1), at(2)))
	require.Equal(t, text(0), s.noted(t, en.field), "the tick between was lost")
	require.NoError(t, s.advance(t.Context(), en, at(0), at(1)))
	require.NoError(t, s.advance(t.Context(), en, at(1), at(2)))
	require.Equal(t, text(2), s.noted(t, en.field))
}

// A result of an opening counts only for the bytes that are stored by then.
func TestCacheNotesWhatIsStored(t *testing.T) {
	t.Parallel()
	c, def := newScheduleCache(), &definition{Name: "a"}
	require.Equal(t, []entry{{field: "f", raw: "old"}}, c.update(map[string]string{"f": "old"}, noon, false))
	require.Len(t, c.update(map[string]string{"f": "new"}, noon, false), 1)
	require.False(t, c.holds(entry{field: "f", raw: "old"}))
	c.note(entry{field: "f", raw: "old", def: def}, noon)
	require.Empty(t, c.named("a"), "it was replaced while it was opened")
	require.ErrorIs(t, c.unopened(true, c.updated()), errNotOpened)
	c.note(entry{field: "f", raw: "new", def: def}, noon)
	require.Len(t, c.named("a"), 1)
	require.NoError(t, c.unopened(false, c.updated()))
	c.note(entry{field: "f", raw: "new", err: jobs.ErrKeyServiceUnavailable}, noon)
	require.Len(t, c.named("a"), 1, "the key did not refuse")
	c.note(entry{field: "f", raw: "new", err: jobs.ErrUnauthentic}, noon)
	require.Empty(t, c.named("a"))
	require.ErrorIs(t, c.unopened(false, c.updated()), jobs.ErrUnauthentic)
	require.NoError(t, c.unopened(true, c.updated()), "it was refused for good")
	_, changes, _ := c.opened(-1)
	c.update(nil, noon, false)
	_, _, changed := c.opened(changes)
	require.False(t, changed, "it did not open before")
}

// Schedules that open are proved again each minute, and failures are forgotten: definite refusals after ten minutes, others after
// one, or when an application asks.
func TestCacheForgets(t *testing.T) {
	t.Parallel()
	c := newScheduleCache()
	stored := map[string]string{"opened": "1", "failed": "2", "refused": "3"}
	c.update(stored, noon, false)
	c.note(entry{field: "opened", raw: "1", def: &definition{Name: "a"}}, noon)
	c.note(entry{field: "failed", raw: "2", err: jobs.ErrKeyServiceUnavailable}, noon)
	c.note(entry{field: "refused", raw: "3", err: jobs.ErrUnauthentic}, noon)
	stored["new"] = "4"
	for _, step := range []struct {
		at    time.Duration
		retry bool
		want  []string
	}{
		{time.Second, false, []string{"new"}},
		{time.Second, true, []string{"new", "failed", "refused"}},
		{rereadInterval, false, []string{"opened", "new", "failed"}},
		{forgetRefused, false, []string{"opened", "new", "failed", "refused"}},
		{-time.Hour, false, []string{"opened", "new", "failed", "refused"}},
	} {
		var got []string
		for _, en := range c.update(stored, noon.Add(step.at), step.retry) {
			got = append(got, en.field)
		}
		require.ElementsMatch(t, step.want, got, step)
	}
}

// An attacker plants fields that are larger than any that is written. They are not read whole, and a schedule can be put in their
// place.
func TestHugeFieldsOfSchedulesAreNotRead(t *testing.T) {
	t.Parallel()
	ctx, server := t.Context(), redistest.Start(t)
	e := sealtest.Encryptor(t, sealtest.Keyring(t), jobs.WithPRF(sealtest.PRF(t, 1)), jobs.WithMaxPayloadBytes(1<<10))
	s := newScheduleStore(server.Client(t), e)
	d, err := newDefinition("a", Every(time.Minute), asynq.NewTask("t", nil), nil, noon)
	require.NoError(t, err)
	en, err := s.seal(ctx, d, noon)
	require.NoError(t, err)
	huge := strings.Repeat("x", 8<<20)
	require.NoError(t, s.rdb.HSet(ctx, s.schedules, en.field, huge, "planted", huge, huge, "v").Err())
	require.NoError(t, s.rdb.HSet(ctx, s.ticks, en.field, huge, asynqwire.VersionField, huge, huge, "1").Err())

	sent := server.Sent(t)
	_, version, ticks, err := s.poll(ctx)
	require.NoError(t, err)
	require.Empty(t, version)
	require.Empty(t, ticks)
	stored, version, err := s.all(ctx)
	require.NoError(t, err)
	require.Empty(t, version)
	require.Len(t, stored, 2)
	found, err := s.of(ctx, "a")
	require.NoError(t, err)
	require.Len(t, found, 1)
	require.Equal(t, stored[en.field], found[0].raw)
	require.ErrorIs(t, s.open(ctx, en.field, found[0].raw).err, jobs.ErrTooLarge)
	require.False(t, s.is(ctx, en))
	ok, before, _, err := s.swap(ctx, found, en, noon)
	require.NoError(t, err)
	require.True(t, ok)
	require.Empty(t, before)
	require.True(t, s.is(ctx, en))
	require.Less(t, server.Sent(t)-sent, int64(1<<20))
}
