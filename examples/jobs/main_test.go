package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/sealcache/sealcache/internal/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const first = `one schedule, registered three times:
  schedule changed: true
  schedule changed: false
  schedule changed: false
the admin page, as the auditor sees it: http://127.0.0.1:`

const want = `
a job and its result, in Redis:
  handler of mail:welcome: Ada <ada@example.org>
  Redis: type sealed:`

func tell(t *testing.T, s settings) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	s.once, s.auditor, s.operator = true, "localhost:0", "localhost:0"
	var out bytes.Buffer
	require.NoError(t, run(ctx, &out, s), out.String())
	require.True(t, strings.HasPrefix(out.String(), first), out.String())
	for _, line := range []string{
		want,
		"payload sealed true, result sealed true\n  result, opened: delivered to ada@example.org\n",
		"  first: <nil>\n  again: asynqjobs: task already exists\n",
		"declined, will be tried again\n",
		"1200 cents, at the second try\n",
		"card:refund: the error text in Redis contains the card: false; opened: ...card 4111 1111 1111 1111 has expired",
		"card:crash: the error text in Redis contains the card: false; opened: ...card 4111 1111 1111 1111",
		"  the operator sees card:crash, payload [withheld]\n",
		"  audit: auditor: view of task, tasks: 1\n  the auditor sees card:crash, payload {\"Card\":\"4111 1111 1111 1111\",\"Cents\":1200}\n",
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

// address waits until the program has printed the address of a user's page.
func (p *page) address(t *testing.T, user string) string {
	t.Helper()
	said := regexp.MustCompile("as the " + user + " sees it: (http://127.0.0.1:[0-9]+/admin/jobs)/\n")
	var found []string
	require.Eventually(t, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		found = said.FindStringSubmatch(p.out.String())
		return found != nil
	}, 2*time.Minute, 10*time.Millisecond)
	return found[1]
}

func get(t *testing.T, url string) (status int, header http.Header, body string) {
	t.Helper()
	return getAs(t, url, "")
}

// getAs sends a request with a given Host header.
func getAs(t *testing.T, url, host string) (status int, header http.Header, body string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	r.Host = host
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(r)
	require.NoError(t, err)
	defer answer.Body.Close()
	var b bytes.Buffer
	_, err = b.ReadFrom(answer.Body)
	require.NoError(t, err)
	return answer.StatusCode, answer.Header, b.String()
}

// Without -once the page is served until the program is interrupted.
func TestPage(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
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
	status, _, body := getAs(t, auditor+"/api/queues", "evil.example")
	require.Equal(t, http.StatusMisdirectedRequest, status, body)
	archived := "/api/queues/default/archived_tasks?size=20&page=1"
	require.Eventually(t, func() bool {
		_, _, body := get(t, auditor+archived)
		return strings.Contains(body, "4111 1111 1111 1111") && strings.Contains(body, "has expired") && strings.Contains(body, "card:refund")
	}, 2*time.Minute, 100*time.Millisecond)
	status, _, body = get(t, operator+archived)
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, body, "card:refund")
	require.NotContains(t, body, "4111 1111")
	require.NotContains(t, body, "has expired")
	_, _, body = get(t, operator+"/api/scheduler_entries")
	require.Contains(t, body, "digest for the board")
	cancel()
	require.NoError(t, <-ended)
}

// The page has no login, so only this machine can reach it.
func TestPageIsNotServedToOthers(t *testing.T) {
	t.Parallel()
	err := run(t.Context(), io.Discard, settings{auditor: "0.0.0.0:0", operator: "localhost:0", once: true})
	require.ErrorContains(t, err, "other machines can reach the address")
}

// A web site whose name resolves to this machine gets nothing through a browser on this machine.
func TestPageByAnotherName(t *testing.T) {
	t.Parallel()
	page := byItsAddress(&net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 7392}, http.NotFoundHandler())
	for host, want := range map[string]int{
		"127.0.0.1:7392": http.StatusNotFound, "localhost:7392": http.StatusNotFound,
		"evil.example:7392": http.StatusMisdirectedRequest, "localhost": http.StatusMisdirectedRequest,
		"localhost:80": http.StatusMisdirectedRequest, "127.0.0.1:7392.evil.example": http.StatusMisdirectedRequest, "": http.StatusMisdirectedRequest,
	} {
		r := httptest.NewRequest(http.MethodGet, "/admin/jobs/", nil)
		r.Host = host
		w := httptest.NewRecorder()
		page.ServeHTTP(w, r)
		require.Equal(t, want, w.Code, host)
	}
}

// A run over a real Redis needs keys that the next run has too.
func TestRedisWithoutKeys(t *testing.T) {
	t.Parallel()
	require.ErrorContains(t, run(t.Context(), io.Discard, settings{redis: "redis://localhost", once: true}), "JOBS_KEYS is not")
}

// Missing keys are made, and found again, also after a run that ended between two files.
func TestKeys(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new", "keys")
	read := func() [2]string {
		k, _, err := keysIn(t.Context(), dir)
		require.NoError(t, err)
		var found [2]string
		for i, path := range []string{strings.TrimPrefix(k.kek, "file://"), k.prf} {
			info, err := os.Stat(path)
			require.NoError(t, err)
			require.Equal(t, os.FileMode(0o600), info.Mode())
			b, err := os.ReadFile(path)
			require.NoError(t, err)
			found[i] = string(b)
		}
		return found
	}
	first := read()
	require.Equal(t, first, read())
	require.NoError(t, os.Remove(filepath.Join(dir, "prf.json")))
	again := read()
	require.Equal(t, first[0], again[0])
	require.NotEqual(t, first[1], again[1])
	files, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, files, 2)
}

func TestInProcess(t *testing.T) {
	t.Parallel()
	tell(t, settings{})
}

// A real Redis holds no plaintext, and a second run with the same keys finds the schedule of the first one.
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
	require.Contains(t, string(dump), "100000", "the search finds the attacker's plaintext")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	out := interrupting{after: "handler of mail:welcome", interrupt: cancel}
	require.NoError(t, run(ctx, &out, s), "interrupted, it ends in good order")
	require.Contains(t, out.String(), "schedule changed: false")
	require.NotContains(t, out.String(), "schedule changed: true")
}

// interrupting interrupts a program once it has printed a text.
type interrupting struct {
	bytes.Buffer
	after     string
	interrupt func()
}

func (w *interrupting) Write(b []byte) (int, error) {
	n, err := w.Buffer.Write(b)
	if strings.Contains(w.String(), w.after) {
		w.interrupt()
	}
	return n, err
}
