package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/middleware/jobs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestEveryRow runs every row in its smallest form: each gives figures that can be read, and meets the budgets that do
// not depend on time. Speed is not tested here.
func TestEveryRow(t *testing.T) {
	for _, r := range rows() {
		t.Run(r.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			status := run(t.Context(), rows(), []string{"-smallest", "-o", "json", "-rows", r.name}, &stdout, &stderr)
			require.Equal(t, exitOK, status, stderr.String())
			var got report
			require.NoError(t, json.Unmarshal(stdout.Bytes(), &got))
			require.NotEmpty(t, got.Results)
			require.NotEmpty(t, got.Machine.Go)
			budgets := 0
			for _, result := range got.Results {
				require.Equal(t, r.name, result.Row)
				require.NotEmpty(t, result.Case)
				require.NotEmpty(t, result.What)
				require.NotEmpty(t, result.Unit)
				for _, v := range []float64{result.Value.Min, result.Value.Median, result.Value.Max} {
					require.False(t, math.IsNaN(v) || math.IsInf(v, 0), "%+v", result)
					if result.Unit == "x" {
						require.Positive(t, v, "%+v", result)
					}
				}
				require.LessOrEqual(t, result.Value.Min, result.Value.Median)
				require.LessOrEqual(t, result.Value.Median, result.Value.Max)
				require.Equal(t, result.Budget != nil, result.Verdict != "", "%+v", result)
				if result.Budget != nil {
					budgets++
				}
				if result.Unit == "bytes" && result.Budget != nil {
					require.Equal(t, okVerdict, result.Verdict, "%+v", result)
				}
			}
			require.Positive(t, budgets, "a row without a budget")
		})
	}
}

// figureRow returns a row with fixed results.
func figureRow(name string, results ...Result) row {
	return row{name, "for tests", func(_ context.Context, b *bench) {
		for _, r := range results {
			if b.wants(r.Case) {
				b.report(r)
			}
		}
	}}
}

func runRows(t *testing.T, all []row, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	status = run(t.Context(), all, args, &out, &errs)
	return status, out.String(), errs.String()
}

func TestVerdicts(t *testing.T) {
	t.Parallel()
	all := []row{figureRow(
		"speed",
		Result{Case: "fast", What: "a / b", Unit: "x", Value: Spread{0.96, 0.9, 1.2}, Budget: atLeast(0.95)},
		Result{Case: "slow", What: "a / b", Unit: "x", Value: Spread{0.94, 0.9, 1.2}, Budget: atLeast(0.95)},
		Result{Case: "big", What: "bytes", Unit: "bytes", Value: exactly(42), Budget: atMost(41)},
		Result{Case: "free", What: "c / d", Unit: "x", Value: exactly(3)},
	)}
	status, stdout, stderr := runRows(t, all)
	require.Equal(t, exitOK, status, "a missed budget is printed, and no failure")
	require.Contains(t, stderr, "budgets missed: 2")
	lines := map[string]string{}
	for line := range strings.Lines(stdout) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "speed" {
			lines[f[1]] = line
		}
	}
	require.Contains(t, lines["fast"], " ok")
	require.Contains(t, lines["slow"], missedVerdict)
	require.Contains(t, lines["big"], missedVerdict)
	require.Contains(t, lines["fast"], "0.900..1.200")
	require.NotContains(t, lines["free"], " ok")

	status, _, _ = runRows(t, all, "-strict")
	require.Equal(t, exitFailed, status)
	status, _, _ = runRows(t, all, "-strict", "-run", "speed/fast")
	require.Equal(t, exitOK, status)
}

// The Markdown of a run can be pasted into a document, and is saved with the JSON that charts are drawn from.
func TestMarkdownAndSavedReports(t *testing.T) {
	t.Parallel()
	all := []row{figureRow(
		"speed",
		Result{Case: "fast", What: "a / b", Unit: "x", Value: Spread{0.96, 0.9, 1.2}, Budget: atLeast(0.95), Figures: "1 | 2"},
		Result{Case: "big", What: "bytes", Unit: "bytes", Value: exactly(42)},
	)}
	folder := filepath.Join(t.TempDir(), "results")
	status, stdout, stderr := runRows(t, all, "-o", "markdown", "-save", folder)
	require.Equal(t, exitOK, status, stderr)
	lines := strings.Split(strings.TrimSpace(stdout), "\n")
	require.Len(t, lines, 6, stdout)
	require.Contains(t, lines[0], runtime.Version())
	require.Equal(t, "| row | case | what | median | min..max | budget |  | cpu | p50 | p99 | figures |", lines[2])
	require.Equal(t, `| speed | fast | a / b | 0.960x | 0.900..1.200 | >= 0.950 | ok |  |  |  | 1 \| 2 |`, lines[4])
	require.Equal(t, "| speed | big | bytes | 42 bytes |  |  |  |  |  |  |  |", lines[5])
	saved, err := os.ReadFile(filepath.Join(folder, "results.md"))
	require.NoError(t, err)
	require.Equal(t, stdout, string(saved))
	saved, err = os.ReadFile(filepath.Join(folder, "results.json"))
	require.NoError(t, err)
	var got report
	require.NoError(t, json.Unmarshal(saved, &got))
	require.Len(t, got.Results, 2)
	status, _, stderr = runRows(t, all, "-save", filepath.Join(folder, "results.md"))
	require.Equal(t, exitFailed, status)
	require.Contains(t, stderr, "-save")
}

func TestChoosing(t *testing.T) {
	t.Parallel()
	all := []row{figureRow("one", Result{Case: "a"}), figureRow("two", Result{Case: "a"}, Result{Case: "b"})}
	for _, c := range []struct {
		args   []string
		status int
		cases  []string
	}{
		{nil, exitOK, []string{"one/a", "two/a", "two/b"}},
		{[]string{"-rows", "two"}, exitOK, []string{"two/a", "two/b"}},
		{[]string{"-rows", "two,one"}, exitOK, []string{"one/a", "two/a", "two/b"}},
		{[]string{"-run", "/a$"}, exitOK, []string{"one/a", "two/a"}},
		{[]string{"-run", "nothing"}, exitUsage, nil},
		{[]string{"-run", "("}, exitUsage, nil},
		{[]string{"-rows", "three"}, exitUsage, nil},
		{[]string{"-rows", "one,"}, exitUsage, nil},
		{[]string{"-o", "xml"}, exitUsage, nil},
		{[]string{"-rounds", "-1"}, exitUsage, nil},
		{[]string{"-heap", "-1"}, exitUsage, nil},
		{[]string{"-nosuchflag"}, exitUsage, nil},
		{[]string{"argument"}, exitUsage, nil},
		{[]string{"-h"}, exitOK, nil},
	} {
		args := append([]string{"-o", "json"}, c.args...)
		status, stdout, stderr := runRows(t, all, args...)
		require.Equal(t, c.status, status, "%v", c.args)
		if c.cases == nil {
			require.Empty(t, stdout)
			require.NotEmpty(t, stderr, "%v", c.args)
			continue
		}
		var got report
		require.NoError(t, json.Unmarshal([]byte(stdout), &got))
		var cases []string
		for _, r := range got.Results {
			cases = append(cases, r.Row+"/"+r.Case)
		}
		require.Equal(t, c.cases, cases, "%v", c.args)
	}
	status, stdout, _ := runRows(t, all, "-list")
	require.Equal(t, exitOK, status)
	require.Equal(t, 2, strings.Count(stdout, "\n"))
}

// A row that fails loses only its own figures, and the exit status is 1.
func TestFailingRow(t *testing.T) {
	t.Parallel()
	fails := row{"bad", "fails", func(_ context.Context, b *bench) {
		b.Check(errors.New("no server"))
		b.report(Result{Case: "not measured"})
	}}
	status, stdout, stderr := runRows(t, []row{figureRow("one", Result{Case: "a"}), fails, figureRow("two", Result{Case: "b"})}, "-o", "json")
	require.Equal(t, exitFailed, status)
	require.Contains(t, stderr, "row bad: no server")
	var got report
	require.NoError(t, json.Unmarshal([]byte(stdout), &got))
	require.Len(t, got.Results, 2)
}

func TestText(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	require.NoError(t, writeText(&b, report{
		Machine: Machine{Go: "go1.26.8", System: "linux/amd64", CPUs: 2, Redis: "7.0.15"},
		Scale:   "quick",
		Results: []Result{
			{Row: "r", Case: "a", What: "x / y", Unit: "x", Value: Spread{1500, 1400.4, 1600}, Budget: atLeast(1000), Verdict: okVerdict, Figures: "3k/s / 2/s"},
			{Row: "r", Case: "a", What: "bytes", Unit: "bytes", Value: exactly(42), Budget: atMost(41), Verdict: missedVerdict, CPU: &Spread{Median: 0.5}, P50: &Spread{Median: 1.25}},
		},
	}))
	require.Equal(t, `go1.26.8, linux/amd64, 2 CPUs, Redis 7.0.15, quick run

row  case  what   median    min..max    budget           cpu     p50     p99  figures
r    a     x / y  1500x     1400..1600  >= 1000  ok                           3k/s / 2/s
           bytes  42 bytes              <= 41    MISSED  0.500x  1.250x       
`, b.String())
	require.Error(t, writeText(brokenWriter{}, report{}))
}

// brokenWriter is a full disk or a closed pipe.
type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestInterleave(t *testing.T) {
	t.Parallel()
	var turns []string
	turn := func(name string) side {
		return side{name: name, do: func(context.Context, int, int) error {
			if len(turns) == 0 || turns[len(turns)-1] != name {
				turns = append(turns, name)
			}
			return nil
		}}
	}
	samples, err := interleave(t.Context(), plan{rounds: 3, slice: time.Microsecond, workers: 1}, turn("a"), turn("b"), turn("c"))
	require.NoError(t, err)
	require.Len(t, samples, 3)
	for _, s := range samples {
		require.Len(t, s, 3)
		for _, got := range s {
			require.Positive(t, got.ops)
			require.Positive(t, got.elapsed)
		}
	}
	// The warm-up visits each side once. Then every other round runs backwards, so that its first side follows itself.
	require.Equal(t, "a b c a b c b a b c", strings.Join(turns, " "))
}

func TestInterleaveStopsAtAnError(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	calls := 0
	bad := side{name: "bad", do: func(context.Context, int, int) error {
		if calls++; calls > 100 {
			return broken
		}
		return nil
	}}
	for _, latencies := range []bool{false, true} {
		calls = 0
		_, err := interleave(t.Context(), plan{rounds: 3, slice: time.Minute, workers: 1, latencies: latencies}, bad)
		require.ErrorIs(t, err, broken)
		require.ErrorContains(t, err, "bad")
	}
}

func TestInterleaveStopsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := interleave(ctx, plan{rounds: 3, slice: time.Microsecond, workers: 2}, side{name: "any", do: func(context.Context, int, int) error { return nil }})
	require.ErrorIs(t, err, context.Canceled)
}

// Each worker calls with its own number, and its calls do not overlap.
func TestWorkers(t *testing.T) {
	t.Parallel()
	counts := make([]int, 4) // the race detector sees two workers with one number
	s := side{name: "s", do: func(_ context.Context, worker, i int) error {
		if i == 0 {
			counts[worker] = 0
		}
		counts[worker]++
		return nil
	}}
	got, err := slice(t.Context(), plan{slice: time.Millisecond, workers: len(counts), latencies: true}, s, 1)
	require.NoError(t, err)
	total := 0
	for _, n := range counts {
		require.Positive(t, n)
		total += n
	}
	require.Equal(t, total, got.ops)
	require.LessOrEqual(t, got.p50, got.p99)
}

func TestSpread(t *testing.T) {
	t.Parallel()
	require.Equal(t, Spread{2, 1, 9}, spreadOf([]float64{9, 1, 2}))
	require.Equal(t, Spread{2.5, 1, 9}, spreadOf([]float64{9, 1, 2, 3}))
	require.Equal(t, Spread{7, 7, 7}, spreadOf([]float64{7}))

	samples := func(ops ...int) []sample {
		var s []sample
		for _, n := range ops {
			s = append(s, sample{ops: n, elapsed: time.Second})
		}
		return s
	}
	// Ratios are taken per round, not of the totals: the third round was slow for both.
	require.Equal(t, Spread{0.5, 0.5, 0.9}, ratios(samples(50, 90, 5), samples(100, 100, 10), sample.perSecond))
}

func TestPercentile(t *testing.T) {
	t.Parallel()
	var all []time.Duration
	for i := range 200 {
		all = append(all, time.Duration(i+1))
	}
	require.Equal(t, time.Duration(100), percentile(all, 50))
	require.Equal(t, time.Duration(198), percentile(all, 99))
	require.Equal(t, time.Duration(1), percentile(all[:1], 99))
	require.Equal(t, time.Duration(1), percentile(all[:2], 50))
	require.Zero(t, percentile(nil, 50))
}

func TestBudget(t *testing.T) {
	t.Parallel()
	require.True(t, atMost(2).kept(2))
	require.False(t, atMost(2).kept(2.01))
	require.True(t, atLeast(2).kept(2))
	require.False(t, atLeast(2).kept(1.99))
	require.False(t, atMost(2).kept(math.NaN()))
	require.False(t, atLeast(2).kept(math.NaN()))
}

func TestAllocations(t *testing.T) {
	var sink []byte
	n, err := allocations(t.Context(), side{name: "s", do: func(context.Context, int, int) error {
		sink = make([]byte, 100)
		return nil
	}}, 1000)
	require.NoError(t, err)
	require.InDelta(t, 1, n, 0.1)
	require.Len(t, sink, 100)
}

// The rows refuse to measure stores and queues that are not what their names say.
func TestChecks(t *testing.T) {
	t.Parallel()
	value := payload(64)
	require.Error(t, checkSealed(value, value))
	require.Error(t, checkPlaintext(append([]byte{1}, value...), value))
	require.NoError(t, checkPlaintext(value, value))

	k := testKeys(t)
	server := redistest.Start(t)
	e, err := jobs.NewEncryptor(k.envelope)
	require.NoError(t, err)
	for _, sealing := range []*jobs.Encryptor{nil, e} {
		q, err := newQueue("q", server, 0, sealing)
		require.NoError(t, err)
		t.Cleanup(q.close)
		require.NoError(t, q.check(t.Context(), value))
		if q.e = e; sealing == e {
			q.e = nil
		}
		require.Error(t, q.check(t.Context(), value), "a queue that is not what it should be")
		_, err = q.enqueue(t.Context(), 2, value)
		require.NoError(t, err)
		if _, err = q.process(t.Context(), 2, payload(64)); sealing == nil {
			require.Error(t, err, "a plaintext job on a sealed queue")
		} else {
			require.ErrorIs(t, err, errOtherJob)
		}
	}

	sealed, err := k.tink.Encrypt(value, nil)
	require.NoError(t, err)
	require.Error(t, checkSealed(sealed, value), "sealed under other keys")
	s, err := middleware.New(new(thinStore), k.keyring)
	require.NoError(t, err)
	require.NoError(t, roundTrip(t.Context(), s, "key", value))
	require.ErrorIs(t, roundTrip(t.Context(), otherValues{s}, "key", value), errAnotherValue)
}

// otherValues is a store that returns another value than the one that was set.
type otherValues struct{ store.StoreInterface }

func (otherValues) Get(context.Context, any) (any, error) { return "another", nil }

func TestCPUTime(t *testing.T) {
	t.Parallel()
	before, known := cpuTime()
	if !known {
		require.False(t, runtime.GOOS == "linux" || runtime.GOOS == "darwin", "known on %s", runtime.GOOS)
		return
	}
	require.Eventually(t, func() bool {
		now, _ := cpuTime()
		return now > before
	}, 2*time.Minute, time.Millisecond)
	if runtime.GOOS == "linux" {
		used, known := cpuTimeOf(os.Getpid())
		require.True(t, known)
		require.Positive(t, used)
	}
	_, known = cpuTimeOf(-1)
	require.False(t, known)
}
