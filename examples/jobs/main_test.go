package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/sealcache/sealcache/stores/storetest/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const first = `schedule registered anew: true
schedule registered anew: false
schedule registered anew: false
the admin page, as the auditor sees it: http://127.0.0.1:`

const want = `
a job, its result, and what Redis holds of them:
  handler of mail:welcome: Ada <ada@example.org>
  Redis: type sealed:`

func tell(t *testing.T, s settings) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s.once, s.auditor, s.operator = true, "localhost:0", "localhost:0"
	var out bytes.Buffer
	require.NoError(t, run(ctx, &out, s), out.String())
	require.True(t, strings.HasPrefix(out.String(), first), out.String())
	for _, line := range []string{
		want,
		"payload sealed true, result sealed true\n  result, opened: delivered to ada@example.org\n",
		"  first: <nil>\n  again: task already exists\n",
		"declined, will be tried again\n",
		"1200 cents, at the second try\n",
		"card:refund: Redis has the card in its error: false; opened: ...card 4111 1111 1111 1111 has expired",
		"card:crash: Redis has the card in its error: false; opened: ...card 4111 1111 1111 1111",
		"  the operator sees card:crash, payload [withheld]\n",
		"  audit: auditor: look at task, tasks: 1\n  the auditor sees card:crash, payload {\"Card\":\"4111 1111 1111 1111\",\"Cents\":1200}\n",
		"  archived, not run: not_sealed\n",
		"to board@example.org, tick 3\n",
		`listed: "digest for the board", @every 1s, mail:digest {"To":"board@example.org"}`,
	} {
		require.Contains(t, out.String(), line)
	}
	return out.String()
}

// page is a buffer that a running program prints to.
type page struct {
	mu  sync.Mutex
	out bytes.Buffer
}

func (p *page) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.Write(b)
}

// address waits until the program has said where a user finds the page.
func (p *page) address(t *testing.T, user string) string {
	t.Helper()
	said := regexp.MustCompile("as the " + user + " sees it: (http://127.0.0.1:[0-9]+/admin/jobs)/\n")
	var found []string
	require.Eventually(t, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		found = said.FindStringSubmatch(p.out.String())
		return found != nil
	}, 20*time.Second, 10*time.Millisecond)
	return found[1]
}

func get(t *testing.T, url string) (status int, header http.Header, body string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(r)
	require.NoError(t, err)
	defer answer.Body.Close()
	var b bytes.Buffer
	_, err = b.ReadFrom(answer.Body)
	require.NoError(t, err)
	return answer.StatusCode, answer.Header, b.String()
}

// Without -once the page is there until the program is interrupted.
func TestPage(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out page
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, &out, settings{auditor: "localhost:0", operator: "127.0.0.1:0"}) }()
	auditor, operator := out.address(t, "auditor"), out.address(t, "operator")
	for _, at := range []string{auditor, operator} {
		status, header, body := get(t, at+"/")
		require.Equal(t, http.StatusOK, status)
		require.Contains(t, body, "<html")
		require.Contains(t, header.Get("Content-Security-Policy"), "default-src")
	}
	archived := "/api/queues/default/archived_tasks?size=20&page=1"
	require.Eventually(t, func() bool {
		_, _, body := get(t, auditor+archived)
		return strings.Contains(body, "4111 1111 1111 1111") && strings.Contains(body, "has expired") && strings.Contains(body, "card:refund")
	}, 30*time.Second, 100*time.Millisecond)
	status, _, body := get(t, operator+archived)
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, body, "card:refund")
	require.NotContains(t, body, "4111 1111")
	require.NotContains(t, body, "has expired")
	_, _, body = get(t, operator+"/api/scheduler_entries")
	require.Contains(t, body, "digest for the board")
	cancel()
	require.NoError(t, <-ended)
}

// The page has no login here, so it is served to this machine only.
func TestPageIsNotServedToOthers(t *testing.T) {
	t.Parallel()
	err := run(t.Context(), io.Discard, settings{auditor: "0.0.0.0:0", operator: "localhost:0", once: true})
	require.ErrorContains(t, err, "is not an address of this machine alone")
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
	s := settings{redis: srv.URL(), keys: t.TempDir(), auditor: "localhost:0", operator: "localhost:0"}
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
