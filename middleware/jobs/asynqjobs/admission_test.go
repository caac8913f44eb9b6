package asynqjobs_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/stretchr/testify/require"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/middleware/jobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
)

// meters counts, and tells what was counted.
type meters struct {
	reader   *metric.ManualReader
	provider *metric.MeterProvider
}

func newMeters() *meters {
	r := metric.NewManualReader()
	return &meters{r, metric.NewMeterProvider(metric.WithReader(r))}
}

// counts returns sealcache.jobs.admission by "outcome reason" and sealcache.jobs.ticks by "tick outcome".
func (m *meters) counts(t *testing.T) map[string]int64 {
	t.Helper()
	var data metricdata.ResourceMetrics
	require.NoError(t, m.reader.Collect(t.Context(), &data))
	got := map[string]int64{}
	for _, s := range data.ScopeMetrics {
		for _, m := range s.Metrics {
			if m.Name == "sealcache.jobs.enqueued" {
				continue // see TestEnqueuedTasksAreCounted
			}
			for _, p := range m.Data.(metricdata.Sum[int64]).DataPoints {
				key := ""
				switch m.Name {
				case "sealcache.jobs.ticks":
					key = "tick "
				case "sealcache.jobs.schedules":
					key = "schedules "
				}
				out, _ := p.Attributes.Value("sealcache.outcome")
				key += out.AsString()
				if reason, ok := p.Attributes.Value("sealcache.reason"); ok {
					key += " " + reason.AsString()
				}
				got[key] += p.Value
			}
		}
	}
	return got
}

func TestPlaintextTasksPassUntilADate(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	m := newMeters()
	var rec recorder
	until := time.Now().Add(time.Hour)
	var over atomic.Bool
	now := func() time.Time {
		if over.Load() {
			return until
		}
		return time.Now()
	}
	serve(t, b.conn, b.e, asynq.Config{}, asynq.HandlerFunc(func(ctx context.Context, task *asynq.Task) error {
		rec.add(string(task.Payload()))
		if task.ResultWriter() != nil {
			t.Error("a plaintext result could be written")
		}
		return asynqjobs.WriteResult(ctx, []byte("result"))
	}), asynqjobs.WithPlaintextUntil(until), asynqjobs.WithNow(now), asynqjobs.WithMeterProvider(m.provider))

	_, err := b.plain.Enqueue(asynq.NewTask("t", []byte("clear")), asynq.TaskID("clear"), asynq.Retention(time.Hour))
	require.NoError(t, err)
	_, err = b.client.Enqueue(asynq.NewTask("t", []byte("sealed")), asynq.TaskID("sealed"), asynq.Retention(time.Hour))
	require.NoError(t, err)
	info := b.awaitState(t, "default", "clear", asynq.TaskStateCompleted)
	result, err := b.client.OpenResult(t.Context(), info)
	require.NoError(t, err, "results are sealed at once")
	require.Equal(t, "result", string(result))
	b.awaitState(t, "default", "sealed", asynq.TaskStateCompleted)

	over.Store(true)
	_, err = b.plain.Enqueue(asynq.NewTask("t", []byte("late")), asynq.TaskID("late"))
	require.NoError(t, err)
	got, _ := asynqjobs.ReasonOf(b.awaitState(t, "default", "late", asynq.TaskStateArchived))
	require.Equal(t, asynqjobs.ReasonNotSealed, got)
	require.ElementsMatch(t, []string{"clear", "sealed"}, rec.all())
	require.Equal(t, map[string]int64{"plaintext": 1, "sealed": 1, "refused not_sealed": 1}, m.counts(t))

	tolerant := newClient(t, b.conn, b.e, asynqjobs.WithPlaintextUntil(time.Now().Add(time.Hour)))
	result, err = tolerant.OpenResult(t.Context(), &asynq.TaskInfo{ID: "1", Result: []byte("old result")})
	require.NoError(t, err)
	require.Equal(t, "old result", string(result))
}

// failingAEAD is a keyring that fails with a given error.
type failingAEAD struct {
	*aead.Keyring
	fail atomic.Pointer[error]
}

func (a *failingAEAD) set(err error) {
	if err == nil {
		a.fail.Store(nil)
		return
	}
	a.fail.Store(&err)
}

func (a *failingAEAD) SealTo(ctx context.Context, dst, p, ad []byte) ([]byte, error) {
	if err := a.fail.Load(); err != nil {
		return nil, *err
	}
	return a.Keyring.SealTo(ctx, dst, p, ad)
}

func (a *failingAEAD) OpenTo(ctx context.Context, dst, c, ad []byte) ([]byte, error) {
	if err := a.fail.Load(); err != nil {
		return nil, *err
	}
	return a.Keyring.OpenTo(ctx, dst, c, ad)
}

var _ tink.AEADWithContext = (*failingAEAD)(nil)

// While the key service is down jobs wait: nothing is archived, no try is used up, also that of a job that has none.
func TestOutagesCostNoJobs(t *testing.T) {
	t.Parallel()
	a := &failingAEAD{Keyring: newKeyring(t)}
	e := newEncryptor(t, a)
	b := newBench(t, e)
	m := newMeters()
	var rec recorder
	_, err := b.client.Enqueue(asynq.NewTask("t", []byte("retried")), asynq.TaskID("retried"), asynq.MaxRetry(1), asynq.Retention(time.Hour))
	require.NoError(t, err)
	_, err = b.client.Enqueue(asynq.NewTask("t", []byte("last")), asynq.TaskID("last"), asynq.MaxRetry(0), asynq.Retention(time.Hour))
	require.NoError(t, err)
	a.set(fmt.Errorf("%w: vault: sealed", aead.ErrKeyServiceUnavailable))
	_, err = b.client.Enqueue(asynq.NewTask("t", []byte("x")))
	require.ErrorIs(t, err, jobs.ErrKeyServiceUnavailable, "no plaintext is enqueued instead")

	var refusals recorder
	serve(t, b.conn, e, asynq.Config{
		RetryDelayFunc: func(_ int, err error, _ *asynq.Task) time.Duration {
			refusals.add(err.Error())
			return time.Second
		},
	}, asynq.HandlerFunc(func(_ context.Context, task *asynq.Task) error {
		rec.add(string(task.Payload()))
		return nil
	}), asynqjobs.WithMeterProvider(m.provider))
	eventually(t, "several tries", patience, func() bool { return m.counts(t)["retried key_service_unavailable"] >= 5 })
	eventually(t, "the reason", patience, func() bool {
		info, err := b.inspector.GetTaskInfo("default", "retried")
		require.NoError(t, err)
		require.Zero(t, info.Retried)
		got, ok := asynqjobs.ReasonOf(info)
		return ok && got == asynqjobs.ReasonKeyServiceUnavailable
	})
	require.Empty(t, rec.all())

	a.set(nil)
	require.Zero(t, b.awaitState(t, "default", "retried", asynq.TaskStateCompleted).Retried)
	b.awaitState(t, "default", "last", asynq.TaskStateCompleted)
	require.ElementsMatch(t, []string{"retried", "last"}, rec.all())
	require.NotEmpty(t, refusals.all())
}

// When the key service fails while a handler fails, the error text is withheld, and the job is retried as ever.
func TestErrorTextsAreWithheldRatherThanClear(t *testing.T) {
	t.Parallel()
	a := &failingAEAD{Keyring: newKeyring(t)}
	b := newBench(t, newEncryptor(t, a))
	serve(t, b.conn, b.e, asynq.Config{}, asynq.HandlerFunc(func(ctx context.Context, _ *asynq.Task) error {
		a.set(aead.ErrKeyServiceUnavailable)
		if err := asynqjobs.WriteResult(ctx, []byte("result")); err == nil {
			t.Error("a result was written")
		}
		return errMine
	}))
	info, err := b.client.Enqueue(asynq.NewTask("t", nil))
	require.NoError(t, err)
	info = b.awaitState(t, "default", info.ID, asynq.TaskStateRetry)
	require.Equal(t, "sealcache: error text withheld [key_service_unavailable]", info.LastErr)
	require.Equal(t, 1, info.Retried)
}

// A keyset that is changed under a full queue loses nothing. A destroyed key's jobs are archived with the reason, and
// only they. A job under a key that this worker has not seen yet makes it reload once.
func TestRotationWithAFullQueue(t *testing.T) {
	t.Parallel()
	manager := keyset.NewManager()
	old, err := manager.Add(tinkaead.AES256GCMKeyTemplate())
	require.NoError(t, err)
	require.NoError(t, manager.SetPrimary(old))
	ring := func() *aead.Keyring {
		h, err := manager.Handle()
		require.NoError(t, err)
		k, err := aead.NewKeyring(h)
		require.NoError(t, err)
		return k
	}
	set := newPRF(t)
	encryptor := func(k tink.AEADWithContext, opts ...jobs.Option) *jobs.Encryptor {
		e, err := jobs.NewEncryptor(k, append(opts, jobs.WithPRF(set), jobs.WithLogger(quiet))...)
		require.NoError(t, err)
		return e
	}
	before := ring()
	b := newBench(t, encryptor(before))
	const n = 300
	enqueue := func(c *asynqjobs.Client, name string, opts ...asynq.Option) {
		for i := range n {
			_, err := c.Enqueue(asynq.NewTask("t", fmt.Appendf(nil, "%s %d", name, i)), append(opts, asynq.TaskID(fmt.Sprintf("%s-%d", name, i)))...)
			require.NoError(t, err)
		}
	}
	enqueue(b.client, "old")
	enqueue(b.client, "doomed", asynq.Queue("doomed"))

	fresh, err := manager.Add(tinkaead.AES256GCMKeyTemplate())
	require.NoError(t, err)
	require.NoError(t, manager.SetPrimary(fresh))
	after := ring()
	enqueue(newClient(t, b.conn, encryptor(after)), "new", asynq.Unique(time.Hour))

	// The worker starts with the old keyset and meets jobs under the new one.
	live := &swappable{}
	live.set(before)
	var reloads atomic.Int32
	e := encryptor(live, jobs.WithReload(func(context.Context) error {
		reloads.Add(1)
		live.set(after)
		return nil
	}))
	var rec recorder
	stop := serve(t, b.conn, e, asynq.Config{Concurrency: 8}, asynq.HandlerFunc(func(_ context.Context, task *asynq.Task) error {
		rec.add(string(task.Payload()))
		return nil
	}))
	eventually(t, "all processed", patience, func() bool { return len(rec.all()) >= 2*n })
	stop()
	require.EqualValues(t, 1, reloads.Load())
	for i := range n {
		require.Equal(t, 1, rec.count(fmt.Sprintf("old %d", i)))
		require.Equal(t, 1, rec.count(fmt.Sprintf("new %d", i)))
	}

	require.NoError(t, manager.Disable(old))
	gone := encryptor(ring())
	info, err := newClient(t, b.conn, gone).Enqueue(asynq.NewTask("t", []byte("untouched")), asynq.Queue("doomed"))
	require.NoError(t, err)
	serve(t, b.conn, gone, asynq.Config{Queues: map[string]int{"doomed": 1}, Concurrency: 8}, asynq.HandlerFunc(func(_ context.Context, task *asynq.Task) error {
		rec.add(string(task.Payload()))
		return nil
	}))
	eventually(t, "untouched job processed", patience, func() bool { return rec.count("untouched") == 1 })
	_, err = b.inspector.GetTaskInfo("doomed", info.ID)
	require.ErrorIs(t, err, asynq.ErrTaskNotFound)
	for i := range n {
		info := b.awaitState(t, "doomed", fmt.Sprintf("doomed-%d", i), asynq.TaskStateArchived)
		got, _ := asynqjobs.ReasonOf(info)
		require.Equal(t, asynqjobs.ReasonKeyRemoved, got)
		require.Contains(t, info.LastErr, fmt.Sprint(old), "it says which key")
	}
}

// swappable is a keyring that is exchanged as a whole, as a reload does.
type swappable struct{ k atomic.Pointer[aead.Keyring] }

func (s *swappable) set(k *aead.Keyring) { s.k.Store(k) }

func (s *swappable) EncryptWithContext(ctx context.Context, p, ad []byte) ([]byte, error) {
	return s.k.Load().EncryptWithContext(ctx, p, ad)
}

func (s *swappable) DecryptWithContext(ctx context.Context, c, ad []byte) ([]byte, error) {
	return s.k.Load().DecryptWithContext(ctx, c, ad)
}
