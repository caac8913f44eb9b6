package asynqjobs_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware/jobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
)

// A task comes out as it went in: type, payload, headers, id and queue, with plain and hidden type names, unique and not.
func TestTasksComeOutAsTheyWentIn(t *testing.T) {
	t.Parallel()
	e := newEncryptor(t, nil, jobs.WithCompression(0))
	b := newBench(t, e)
	hidden := newClient(t, b.conn, e, asynqjobs.WithHiddenTypes())
	var rec recorder
	serve(t, b.conn, e, asynq.Config{}, asynq.HandlerFunc(func(ctx context.Context, task *asynq.Task) error {
		id, _ := asynq.GetTaskID(ctx)
		if task.ResultWriter() != nil {
			t.Error("a task must not offer a way to write plaintext results")
		}
		rec.add(fmt.Sprintf("%s %s %q %v nil:%v", id, task.Type(), task.Payload(), task.Headers(), task.Payload() == nil))
		return nil
	}))
	var want []string
	for name, client := range map[string]*asynqjobs.Client{"open": b.client, "hidden": hidden} {
		for i, opts := range [][]asynq.Option{nil, {asynq.Unique(time.Hour)}} {
			for j, payload := range []string{"", "x", strings.Repeat("long ", 1000), "\xc1\x5d\x01", "\x00\xff"} {
				for k, headers := range []map[string]string{nil, {"trace": "abc", "sealcache": "user's own"}} {
					id := fmt.Sprintf("%s-%d-%d-%d", name, i, j, k)
					task := asynq.NewTaskWithHeaders("mail:"+id, []byte(payload), headers, asynq.TaskID(id))
					info, err := client.Enqueue(task, opts...)
					require.NoError(t, err)
					require.Equal(t, id, info.ID)
					require.Equal(t, task.Type(), info.Type)
					require.Equal(t, payload, string(info.Payload))
					require.Equal(t, payload, string(task.Payload()), "the caller's task is not changed")
					want = append(want, fmt.Sprintf("%s mail:%s %q %v nil:%v", id, id, payload, headers, payload == ""))
				}
			}
		}
	}
	eventually(t, "all tasks processed", patience, func() bool { return len(rec.all()) == len(want) })
	require.ElementsMatch(t, want, rec.all())
}

// asynq hands over what its own client makes of the same tasks: held against it.
func TestOptionsOfATaskAreCarried(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	at := time.Now().Add(time.Hour).Truncate(time.Second)
	for i, opts := range [][]asynq.Option{
		{asynq.Queue("low"), asynq.MaxRetry(3), asynq.Timeout(time.Minute)},
		{asynq.Deadline(at), asynq.Retention(time.Hour), asynq.ProcessAt(at)},
		{asynq.ProcessIn(time.Hour), asynq.Unique(time.Hour)},
		{asynq.Group("g")},
	} {
		for _, where := range []string{"baked", "given", "overridden"} {
			var got, want *asynq.TaskInfo
			id := fmt.Sprintf("%d-%s", i, where)
			for _, c := range []struct {
				enqueue func(*asynq.Task, ...asynq.Option) (*asynq.TaskInfo, error)
				info    **asynq.TaskInfo
				id      string
			}{{b.client.Enqueue, &got, id + "-sealed"}, {b.plain.Enqueue, &want, id + "-plain"}} {
				var err error
				switch where {
				case "baked":
					*c.info, err = c.enqueue(asynq.NewTask(id, []byte("p"), append(opts, asynq.TaskID(c.id))...))
				case "given":
					*c.info, err = c.enqueue(asynq.NewTask(id, []byte("p")), append(opts, asynq.TaskID(c.id))...)
				case "overridden":
					*c.info, err = c.enqueue(asynq.NewTask(id, []byte("p"), asynq.MaxRetry(99), asynq.Queue("other"), asynq.TaskID("never")), append(opts, asynq.TaskID(c.id))...)
				}
				require.NoError(t, err)
			}
			require.Equal(t, id+"-sealed", got.ID)
			got.ID, want.ID = "", ""
			require.WithinDuration(t, want.NextProcessAt, got.NextProcessAt, 5*time.Minute)
			got.NextProcessAt = want.NextProcessAt
			if want.Payload != nil {
				require.Equal(t, want, got)
			}
			stored, err := b.inspector.GetTaskInfo(got.Queue, id+"-sealed")
			require.NoError(t, err)
			require.True(t, jobs.IsSealed(stored.Payload))
			require.Equal(t, want.MaxRetry, stored.MaxRetry)
			require.Equal(t, want.Timeout, stored.Timeout)
			require.Equal(t, want.Deadline, stored.Deadline)
			require.Equal(t, want.Retention, stored.Retention)
			require.Equal(t, want.Group, stored.Group)
			require.Equal(t, want.State, stored.State)
		}
	}
}

func TestEnqueueRefuses(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	for name, c := range map[string]struct {
		task *asynq.Task
		opts []asynq.Option
	}{
		"nil task":        {nil, nil},
		"no type":         {asynq.NewTask(" ", nil), nil},
		"blank id":        {asynq.NewTask("t", nil), []asynq.Option{asynq.TaskID(" ")}},
		"reserved id":     {asynq.NewTask("t", nil), []asynq.Option{asynq.TaskID("\x00group1:ab")}},
		"blank queue":     {asynq.NewTask("t", nil), []asynq.Option{asynq.Queue("")}},
		"short unique":    {asynq.NewTask("t", nil), []asynq.Option{asynq.Unique(time.Millisecond)}},
		"blank group":     {asynq.NewTask("t", nil), []asynq.Option{asynq.Group("")}},
		"baked blank id":  {asynq.NewTask("t", nil, asynq.TaskID("")), nil},
		"baked bad group": {asynq.NewTask("t", nil, asynq.Group("")), nil},
	} {
		_, err := b.client.Enqueue(c.task, c.opts...)
		require.Error(t, err, name)
	}
	n, err := b.rdb.DBSize(t.Context()).Result()
	require.NoError(t, err)
	require.Zero(t, n)

	_, err = b.client.Enqueue(asynq.NewTask("t", nil), asynq.TaskID("1"))
	require.NoError(t, err)
	_, err = b.client.Enqueue(asynq.NewTask("t", nil), asynq.TaskID("1"))
	require.ErrorIs(t, err, asynq.ErrTaskIDConflict)

	noPRF, err := jobs.NewEncryptor(newKeyring(t))
	require.NoError(t, err)
	client := newClient(t, b.conn, noPRF)
	_, err = client.Enqueue(asynq.NewTask("t", nil), asynq.Unique(time.Hour))
	require.ErrorIs(t, err, jobs.ErrNoPRF)
	_, err = asynqjobs.NewClient(b.plain, noPRF, asynqjobs.WithHiddenTypes())
	require.ErrorIs(t, err, jobs.ErrNoPRF)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = b.client.EnqueueContext(ctx, asynq.NewTask("t", nil))
	require.ErrorIs(t, err, context.Canceled)
}

func TestConstructorsCheckTheirArguments(t *testing.T) {
	t.Parallel()
	e := newEncryptor(t, nil)
	c := asynq.NewClient(asynq.RedisClientOpt{Addr: "127.0.0.1:1"})
	defer c.Close()
	for name, opt := range map[string]asynqjobs.Option{
		"nil":    nil,
		"until":  asynqjobs.WithPlaintextUntil(time.Time{}),
		"logger": asynqjobs.WithLogger(nil),
		"meters": asynqjobs.WithMeterProvider(nil),
	} {
		_, err := asynqjobs.NewClient(c, e, opt)
		require.Error(t, err, name)
		_, err = asynqjobs.Handler(e, never(t), opt)
		require.Error(t, err, name)
		_, err = asynqjobs.Config(e, asynq.Config{}, opt)
		require.Error(t, err, name)
	}
	_, err := asynqjobs.NewClient(nil, e)
	require.Error(t, err)
	_, err = asynqjobs.NewClient(c, nil)
	require.Error(t, err)
	_, err = asynqjobs.Handler(e, nil)
	require.Error(t, err)
	_, err = asynqjobs.Handler(nil, never(t))
	require.Error(t, err)
	_, err = asynqjobs.Config(nil, asynq.Config{})
	require.Error(t, err)
	h, err := asynqjobs.Handler(e, never(t))
	require.NoError(t, err)
	require.Error(t, h.ProcessTask(t.Context(), asynq.NewTask("t", nil)), "outside a server nothing says which task it is")
	require.Error(t, asynqjobs.WriteResult(t.Context(), nil))
}

func TestResults(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	serve(t, b.conn, b.e, asynq.Config{}, asynq.HandlerFunc(func(ctx context.Context, task *asynq.Task) error {
		if err := asynqjobs.WriteResult(ctx, []byte("overwritten")); err != nil {
			return err
		}
		return asynqjobs.WriteResult(ctx, append([]byte("result of "), task.Payload()...))
	}))
	a, err := b.client.Enqueue(asynq.NewTask("t", []byte("a")), asynq.Retention(time.Hour))
	require.NoError(t, err)
	c, err := b.client.Enqueue(asynq.NewTask("t", []byte("c")), asynq.Retention(time.Hour))
	require.NoError(t, err)
	infoA := b.awaitState(t, "default", a.ID, asynq.TaskStateCompleted)
	infoC := b.awaitState(t, "default", c.ID, asynq.TaskStateCompleted)
	require.NotContains(t, string(infoA.Result), "result of")
	result, err := b.client.OpenResult(t.Context(), infoA)
	require.NoError(t, err)
	require.Equal(t, "result of a", string(result))

	// Another task's result, its own payload and a plaintext result are refused.
	infoA.Result = infoC.Result
	_, err = b.client.OpenResult(t.Context(), infoA)
	require.ErrorIs(t, err, jobs.ErrUnauthentic)
	infoA.Result = infoA.Payload
	_, err = b.client.OpenResult(t.Context(), infoA)
	require.ErrorIs(t, err, jobs.ErrUnauthentic)
	infoA.Result = []byte("clear")
	_, err = b.client.OpenResult(t.Context(), infoA)
	require.ErrorIs(t, err, jobs.ErrNotSealed)
	infoA.Result = nil
	result, err = b.client.OpenResult(t.Context(), infoA)
	require.NoError(t, err)
	require.Nil(t, result)

	task, err := asynqjobs.OpenTask(t.Context(), b.e, infoC)
	require.NoError(t, err)
	require.Equal(t, "c", string(task.Payload()))
}

var errMine = errors.New("a secret was mentioned")

// Errors keep their identity for asynq and for the application's functions; in Redis their text is sealed.
func TestErrorsAreSealedAndStillThemselves(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	seen := seenErrors{by: map[string][]seenError{}}
	noticed := make(chan struct{}) // asynq has seen that the time of the task is over
	serve(t, b.conn, b.e, seen.config(), asynq.HandlerFunc(func(ctx context.Context, task *asynq.Task) error {
		switch task.Type() {
		case "skip":
			return fmt.Errorf("%w: %w", errMine, asynq.SkipRetry)
		case "revoke":
			return fmt.Errorf("%w: %w", errMine, asynq.RevokeTask)
		case "panic":
			panic(errMine)
		case "nilmap":
			var m map[string]int
			m["a secret was mentioned"] = 1 //nolint:staticcheck // it shall panic
		case "slow":
			<-ctx.Done()
			<-noticed
		}
		return errMine
	}))
	ids := map[string]string{}
	for _, typename := range []string{"fail", "skip", "revoke", "panic", "nilmap", "slow"} {
		var opts []asynq.Option
		if typename == "slow" {
			opts = append(opts, asynq.Timeout(time.Second))
		}
		info, err := b.client.Enqueue(asynq.NewTask(typename, []byte("payload of "+typename)), opts...)
		require.NoError(t, err)
		ids[typename] = info.ID
	}
	for typename, state := range map[string]asynq.TaskState{
		"fail": asynq.TaskStateRetry, "skip": asynq.TaskStateArchived, "panic": asynq.TaskStateRetry,
		"nilmap": asynq.TaskStateRetry, "slow": asynq.TaskStateRetry,
	} {
		info := b.awaitState(t, "default", ids[typename], state)
		require.NotContains(t, info.LastErr, "secret", typename)
		text, err := asynqjobs.OpenFailure(t.Context(), b.e, info)
		require.NoError(t, err, typename)
		switch typename {
		case "slow":
			require.Equal(t, context.DeadlineExceeded.Error(), text)
		case "nilmap":
			require.Contains(t, text, "assignment to entry in nil map")
			require.Contains(t, text, "asynqjobs_test.go:")
		case "panic":
			require.Regexp(t, `^panic error cause by: panic \[\S+/asynqjobs_test\.go:\d+\]: .*secret`, text, "as asynq has it, and once")
		default:
			require.Contains(t, text, "secret")
		}
		if typename != "slow" {
			_, ok := asynqjobs.ReasonOf(info)
			require.False(t, ok)
			info.ID = "other"
			_, err = asynqjobs.OpenFailure(t.Context(), b.e, info)
			require.ErrorIs(t, err, jobs.ErrUnauthentic, "another task's error text")
		}
	}
	close(noticed)
	eventually(t, "revoked task gone", patience, func() bool {
		_, err := b.inspector.GetTaskInfo("default", ids["revoke"])
		return errors.Is(err, asynq.ErrTaskNotFound)
	})
	seen.requireOriginals(t)
}

// An error whose text panics fails its task as any other. The application's functions still find its causes.
func TestHandlerErrorThatPanics(t *testing.T) {
	t.Parallel()
	for _, policy := range []jobs.PlaintextPolicy{jobs.RejectPlaintext, jobs.WritePlaintext} {
		b := newBench(t, nil, asynqjobs.WithPlaintext(policy))
		var mine atomic.Bool
		cfg := asynq.Config{
			RetryDelayFunc: func(int, error, *asynq.Task) time.Duration { return time.Hour },
			IsFailure: func(err error) bool {
				mine.Store(errors.Is(err, errMine))
				return true
			},
		}
		serve(t, b.conn, b.e, cfg, asynq.HandlerFunc(func(context.Context, *asynq.Task) error {
			return sealtest.PanickingError{Cause: errMine}
		}), asynqjobs.WithPlaintext(policy))
		info, err := b.client.Enqueue(asynq.NewTask("fail", nil))
		require.NoError(t, err)
		info = b.awaitState(t, "default", info.ID, asynq.TaskStateRetry)
		require.True(t, mine.Load())
		text, err := asynqjobs.OpenFailure(t.Context(), b.e, info)
		require.NoError(t, err)
		require.Equal(t, "error of type sealtest.PanickingError: its method Error panicked", text)
		require.Equal(t, policy == jobs.WritePlaintext, text == info.LastErr)
	}
}

// seenError is an error as a function of asynq.Config sees it.
type seenError struct {
	task  string // type and payload
	text  string
	mine  bool
	panic bool
}

// seenErrors records the errors that the functions of asynq.Config see, by function.
type seenErrors struct {
	mu sync.Mutex
	by map[string][]seenError
}

func (s *seenErrors) add(where string, task *asynq.Task, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := seenError{text: err.Error(), mine: errors.Is(err, errMine), panic: asynq.IsPanicError(err)}
	if task != nil {
		e.task = task.Type() + " " + string(task.Payload())
	}
	s.by[where] = append(s.by[where], e)
}

func (s *seenErrors) config() asynq.Config {
	return asynq.Config{
		ErrorHandler: asynq.ErrorHandlerFunc(func(_ context.Context, task *asynq.Task, err error) { s.add("handler", task, err) }),
		RetryDelayFunc: func(_ int, err error, task *asynq.Task) time.Duration {
			s.add("delay", task, err)
			return time.Hour
		},
		IsFailure: func(err error) bool {
			s.add("failure", nil, err)
			return true
		},
	}
}

// requireOriginals requires that each function has seen the handler's own errors, with the opened tasks.
func (s *seenErrors) requireOriginals(t *testing.T) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	require.Len(t, s.by["handler"], 6)
	require.Len(t, s.by["delay"], 4)
	for _, where := range []string{"handler", "delay"} {
		for _, s := range s.by[where] {
			typename, _, _ := strings.Cut(s.task, " ")
			require.Equal(t, typename+" payload of "+typename, s.task, where)
			require.Equal(t, typename == "panic" || typename == "nilmap", s.panic, where+typename)
			require.Equal(t, typename == "fail" || typename == "skip" || typename == "revoke", s.mine, where+typename)
			if typename == "panic" {
				require.Regexp(t, `^panic error cause by: panic \[\S+/asynqjobs_test\.go:\d+\]: .*secret`, s.text, where)
			}
		}
	}
	mine := 0
	for _, s := range s.by["failure"] {
		if s.mine {
			mine++
			require.Equal(t, errMine.Error(), s.text)
		}
	}
	require.Equal(t, 1, mine)
}

// A payload is sealed once: a retried task keeps its bytes.
func TestRetriesAreSealedOnce(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	var tries atomic.Int32
	serve(t, b.conn, b.e, asynq.Config{
		RetryDelayFunc: func(int, error, *asynq.Task) time.Duration { return time.Second },
	}, asynq.HandlerFunc(func(_ context.Context, task *asynq.Task) error {
		if string(task.Payload()) != "payload" {
			t.Errorf("%q", task.Payload())
		}
		if tries.Add(1) < 3 {
			return errMine
		}
		return nil
	}))
	info, err := b.client.Enqueue(asynq.NewTask("t", []byte("payload")), asynq.Retention(time.Hour), asynq.ProcessIn(time.Second))
	require.NoError(t, err)
	before, err := b.inspector.GetTaskInfo("default", info.ID)
	require.NoError(t, err)
	after := b.awaitState(t, "default", info.ID, asynq.TaskStateCompleted)
	require.EqualValues(t, 3, tries.Load())
	require.Equal(t, 2, after.Retried)
	require.Equal(t, before.Payload, after.Payload)
	require.Equal(t, before.Headers, after.Headers)
}
