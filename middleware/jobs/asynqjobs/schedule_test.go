package asynqjobs

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Expressions that make package cron panic, and zones that differ between machines, are errors.
func TestCronTimeZones(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, spec := range []string{
		"TZ=UTC", "CRON_TZ=UTC", "TZ=", "CRON_TZ=", "TZ= * * * * *", "TZ=UTC\t* * * * *", "TZ=Nowhere/X * * * * *",
		"CRON_TZ=Local 0 3 * * *", "TZ=Local @daily", "TZ=UTC @every 1h", "CRON_TZ=UTC ", "TZ=../../etc/passwd * * * * *",
		"TZ=localtime 0 3 * * *", "CRON_TZ=posixrules @daily",
	} {
		require.NotPanics(t, func() {
			_, err := Cron(spec).parse(now)
			require.Error(t, err, spec)
			require.Less(t, len(err.Error()), 120, spec)
		}, spec)
	}
	for _, spec := range []string{"TZ=UTC 0 3 * * *", "CRON_TZ=Asia/Tokyo  @daily", "0 3 * * *"} {
		_, err := Cron(spec).parse(now)
		require.NoError(t, err, spec)
	}
}

// An error does not repeat an expression of any length.
func TestLongExpressions(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 65<<10)
	for _, spec := range []string{
		long, long + " * * * *", "@" + long, "@every " + long, "@every 1ns" + strings.Repeat(" ", len(long)) + "x", "TZ=" + long, "TZ=" + long + " * * * * *",
		"TZ=UTC " + strings.Repeat(" ", len(long)) + "@every 1h", "TZ= " + long, "0 0 31" + strings.Repeat(" ", len(long)) + "2 *",
		"TZ=Local" + strings.Repeat(" ", len(long)) + "@daily", strings.Repeat("* ", len(long)), strings.Repeat("1,", len(long)) + "99 * * * *",
	} {
		_, err := Cron(spec).parse(time.Now())
		require.Error(t, err)
		require.Less(t, len(err.Error()), 200)
	}
}

// A clock that stands before the registration finds the ticks of the same grid.
func TestIntervalBeforeItsRegistration(t *testing.T) {
	t.Parallel()
	anchor := time.Date(2026, 3, 1, 12, 0, 7, 0, time.UTC)
	tk, err := Every(time.Minute).parse(anchor)
	require.NoError(t, err)
	for before, want := range map[time.Duration]time.Duration{
		0: time.Minute, time.Second: 0, time.Minute: 0, 61 * time.Second: -time.Minute, time.Hour: -59 * time.Minute,
	} {
		require.Equal(t, anchor.Add(want), tk.next(anchor.Add(-before)), before)
	}
}

// No expression panics, and the ticks of each accepted one rise.
func FuzzSchedule(f *testing.F) {
	for _, s := range []string{
		"TZ=UTC", "CRON_TZ=UTC", "TZ=", "CRON_TZ=Europe/Berlin 30 2 * * *", "@every 1m30s", "@every -1s", "@every 1ns", "@daily", "*/0 * * * *",
		"1-0 * * * *", "* * * * * *", "0 0 31 2 *", "0 0 29 2 MON", "CRON_TZ=Local * * * * *", "\x00", "@", "TZ=UTC @every 1h", "*,* ? L W #",
	} {
		f.Add(s, int64(1772366400))
	}
	f.Fuzz(func(t *testing.T, spec string, unix int64) {
		at := time.Unix(unix%(1<<33), 0)
		tk, err := Cron(spec).parse(at)
		if err != nil {
			return
		}
		for x := at.Add(-time.Hour); ; {
			next := tk.next(x)
			if next.IsZero() || next.Sub(at) > 24*time.Hour {
				return
			}
			if !next.After(x) {
				t.Fatalf("%q: tick %v is not after %v", spec, next, x)
			}
			x = next
		}
	})
}
