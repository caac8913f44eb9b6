package asynqjobs

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/middleware/internal/wire"
)

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
	const header, tag = "\xc1\x5c\x01\x05\x01\x00", "0123456789abcdef"
	wrapped := func(key string) string { return "\x00\x00\x00" + string(rune(len(key))) + key }
	_, n, err := wire.Parse([]byte(header + "body"))
	require.NoError(t, err)
	require.Equal(t, len(header), n)
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"\x01abcd1", "\x01abcd2", true},
		{"\x01abcd1", "\x01abce1", false},
		{wrapped("\x01abcd1" + tag), wrapped("\x01abcd2" + tag), true},
		{wrapped("\x01abcd1" + tag), wrapped("\x01abce1" + tag), false},
		{wrapped("vault:v1:x"), wrapped("vault:v1:y"), true},
		{wrapped("vault:v1:x"), wrapped("vault:v2:x"), false},
		{wrapped("other1"), wrapped("other2"), true},
	} {
		require.Equal(t, c.same, underSameKey(header+c.a+tag, header+c.b+tag), "%q %q", c.a, c.b)
	}
}

func TestSchedulesThatNeverWork(t *testing.T) {
	t.Parallel()
	for _, s := range []Schedule{{}, Every(0), Every(-time.Second), Every(999 * time.Millisecond), Every(time.Second + time.Microsecond), Cron(""), Cron("x"), Cron("* * * *"), Cron("@every 1"), Cron("0 0 31 2 *"), Cron("CRON_TZ=UTC @every 1h"), Cron("TZ=UTC @every 1h")} {
		_, err := s.parse(time.Now())
		require.Error(t, err, "%q", s)
	}
}
