package main

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/sealcache/sealcache/stores/storetest/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const want = `schedule registered anew: true
schedule registered anew: false
schedule registered anew: false

a job, its result, and what Redis holds of them:
  handler of mail:welcome: Ada <ada@example.org>
  Redis: type sealed:`

func tell(t *testing.T, s settings) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s.once = true
	var out bytes.Buffer
	require.NoError(t, run(ctx, &out, s), out.String())
	for _, line := range []string{
		want,
		"payload sealed true, result sealed true\n  result, opened: delivered to ada@example.org\n",
		"  first: <nil>\n  again: task already exists\n",
		"declined, will be tried again\n",
		"1200 cents, at the second try\n",
		"card:refund: Redis has the card in its error: false; opened: ...card 4111 1111 1111 1111 has expired",
		"card:crash: Redis has the card in its error: false; opened: ...card 4111 1111 1111 1111",
		"  archived, not run: not_sealed\n",
		"to board@example.org, tick 3\n",
		`listed: "digest for the board", @every 1s, mail:digest {"To":"board@example.org"}`,
	} {
		require.Contains(t, out.String(), line)
	}
	return out.String()
}

func TestInProcess(t *testing.T) {
	t.Parallel()
	tell(t, settings{})
}

// Over a real Redis nothing readable is left; a second run with the same keys finds what the first one registered.
func TestOverRedis(t *testing.T) {
	t.Parallel()
	srv := redistest.Start(t)
	monitor := srv.Monitor(t)
	s := settings{redis: srv.Addr(), keys: t.TempDir()}
	tell(t, s)
	dump := monitor.Bytes(t)
	for _, b := range srv.DumpFiles(t) {
		dump = append(dump, b...)
	}
	for _, canary := range []string{"ada@example.org", "4111 1111", "mail:welcome", "mail:digest", "card:charge", "card:crash", "board@example", "for the board", "declined", "delivered", "no plan for"} {
		require.NotContains(t, string(dump), canary)
	}
	require.Contains(t, string(dump), "100000", "what the intruder wrote is found: the search works")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	var out bytes.Buffer
	require.NoError(t, run(ctx, &out, s), "interrupted, it ends in good order")
	require.Contains(t, out.String(), "registered anew: false")
	require.NotContains(t, out.String(), "registered anew: true")
}
