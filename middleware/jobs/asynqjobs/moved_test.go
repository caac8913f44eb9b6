package asynqjobs_test

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware/jobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
)

func encoded(b []byte) string { return base64.RawStdEncoding.EncodeToString(b) }

func decoded(t *testing.T, s string) []byte {
	t.Helper()
	b, err := base64.RawStdEncoding.DecodeString(s)
	require.NoError(t, err)
	return b
}

// An attacker who can write to Redis makes new jobs from parts of others. None of these runs; each is archived
// at once, with the reason.
func TestForgedTasksAreArchivedAtOnce(t *testing.T) {
	t.Parallel()
	for name, opts := range map[string][]asynqjobs.Option{"open": nil, "hidden": {asynqjobs.WithHiddenTypes()}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, nil, opts...)
			stolen := func(typename, payload string, opts ...asynq.Option) *asynq.TaskInfo {
				info, err := b.client.Enqueue(asynq.NewTask(typename, []byte(payload)), append(opts, asynq.ProcessIn(time.Hour))...)
				require.NoError(t, err)
				info, err = b.inspector.GetTaskInfo(info.Queue, info.ID)
				require.NoError(t, err)
				require.NoError(t, b.inspector.DeleteTask(info.Queue, info.ID))
				return info
			}
			pay := stolen("pay", "to eve")
			other := stolen("pay", "to bob")
			del := stolen("delete", "user bob")
			low := stolen("pay", "low", asynq.Queue("low"))
			member, _ := parted(stolen("pay", "in a group", asynq.Group("g"), asynq.TaskID("order")).Payload)
			bound := "\x00" + map[string]string{"open": "group", "hidden": "frame"}[name] + "1:gorder" // what the member is bound to
			altered := append([]byte(nil), pay.Payload...)
			altered[len(altered)-1] ^= 1
			newer := append([]byte(nil), pay.Payload...)
			newer[2] = 2
			value, claim := parted(pay.Payload)
			otherValue, _ := parted(other.Payload)
			lowValue, lowClaim := parted(low.Payload)
			flagged := func(flag byte) string { return string([]byte{claim[0] ^ flag}) + claim[1:] }
			for what, f := range map[string]struct {
				typename string
				payload  []byte
				headers  map[string]string
				queue    string
				id       string
				want     asynqjobs.Reason
			}{
				"plaintext":                        {"pay", []byte("to eve"), nil, "default", "1", asynqjobs.ReasonNotSealed},
				"plaintext, empty":                 {"pay", nil, nil, "default", "2", asynqjobs.ReasonNotSealed},
				"under another id":                 {pay.Type, pay.Payload, pay.Headers, "default", "3", asynqjobs.ReasonUnauthentic},
				"another task's arguments":         {pay.Type, other.Payload, other.Headers, "default", pay.ID, asynqjobs.ReasonUnauthentic},
				"and its claim":                    {pay.Type, claiming(otherValue, claim), pay.Headers, "default", pay.ID, asynqjobs.ReasonUnauthentic},
				"another type":                     {del.Type, pay.Payload, pay.Headers, "default", pay.ID, asynqjobs.ReasonUnauthentic},
				"another queue":                    {low.Type, low.Payload, low.Headers, "default", low.ID, asynqjobs.ReasonUnauthentic},
				"no queue claimed":                 {low.Type, claiming(lowValue, strings.Replace(lowClaim, "3:low", "0:", 1)), low.Headers, "default", low.ID, asynqjobs.ReasonUnauthentic},
				"its own claim changed":            {pay.Type, claiming(value, claim[:len(claim)-1]+string([]byte{claim[len(claim)-1] ^ 1})), pay.Headers, "default", pay.ID, asynqjobs.ReasonUnauthentic},
				"its queue's name changed":         {low.Type, claiming(lowValue, strings.Replace(lowClaim, "3:low", "7:default", 1)), low.Headers, "default", low.ID, asynqjobs.ReasonUnauthentic},
				"into a group that it is not in":   {pay.Type, claiming(value, flagged(2)+"1:g"), pay.Headers, "default", pay.ID, asynqjobs.ReasonUnauthentic},
				"a payload taken for a frame":      {pay.Type, claiming(value, flagged(1)), pay.Headers, "default", pay.ID, asynqjobs.ReasonUnauthentic}, // or, hidden, the other way round
				"altered":                          {pay.Type, altered, pay.Headers, "default", pay.ID, asynqjobs.ReasonUnauthentic},
				"cut off":                          {pay.Type, pay.Payload[:4], pay.Headers, "default", pay.ID, asynqjobs.ReasonUnsupportedFormat},
				"of a newer release":               {pay.Type, newer, pay.Headers, "default", pay.ID, asynqjobs.ReasonUnsupportedFormat},
				"a claim that is none":             {pay.Type, claiming(value, "x"), pay.Headers, "default", pay.ID, asynqjobs.ReasonUnauthentic},
				"without its claim":                {pay.Type, value, pay.Headers, "default", pay.ID, asynqjobs.ReasonUnauthentic},
				"under the id that it is bound to": {pay.Type, claiming(member, "\x007:default"+strconv.Itoa(len(bound))+":"+bound), nil, "default", bound, asynqjobs.ReasonUnauthentic},
			} {
				_, err := b.plain.Enqueue(asynq.NewTaskWithHeaders(f.typename, f.payload, f.headers), asynq.Queue(f.queue), asynq.TaskID(f.id))
				require.NoError(t, err, what)
				stop := serve(t, b.conn, b.e, asynq.Config{}, never(t))
				info := b.awaitState(t, f.queue, f.id, asynq.TaskStateArchived)
				stop()
				got, ok := asynqjobs.ReasonOf(info)
				require.True(t, ok, what)
				require.Equal(t, f.want, got, what)
				require.Zero(t, info.Retried, what)
				require.NoError(t, b.inspector.DeleteTask(f.queue, f.id))
			}

			// SECURITY.md says that an old job can be enqueued again unchanged.
			var rec recorder
			_, err := b.plain.Enqueue(asynq.NewTaskWithHeaders(pay.Type, pay.Payload, pay.Headers), asynq.TaskID(pay.ID))
			require.NoError(t, err)
			serve(t, b.conn, b.e, asynq.Config{}, asynq.HandlerFunc(func(_ context.Context, task *asynq.Task) error {
				rec.add(task.Type() + " " + string(task.Payload()))
				return nil
			}))
			eventually(t, "replayed", patience, func() bool { return len(rec.all()) == 1 })
			require.Equal(t, []string{"pay to eve"}, rec.all())
		})
	}
}

// Jobs of another namespace, cache values and values of other kinds are refused.
func TestOtherNamespacesAreForeign(t *testing.T) {
	t.Parallel()
	k, set := newKeyring(t), newPRF(t)
	e, err := jobs.NewEncryptor(k, jobs.WithPRF(set), jobs.WithNamespace("one"), jobs.WithLogger(quiet))
	require.NoError(t, err)
	other, err := jobs.NewEncryptor(k, jobs.WithPRF(set), jobs.WithNamespace("two"), jobs.WithLogger(quiet))
	require.NoError(t, err)
	b := newBench(t, e)
	client := newClient(t, b.conn, other)
	serve(t, b.conn, e, asynq.Config{}, never(t))
	info, err := client.Enqueue(asynq.NewTask("t", []byte("p")))
	require.NoError(t, err)
	got, _ := asynqjobs.ReasonOf(b.awaitState(t, "default", info.ID, asynq.TaskStateArchived))
	require.Equal(t, asynqjobs.ReasonUnauthentic, got)
}

// asynq takes the queue of a task from the task itself. A task that an attacker moves with the name of its queue does not run
// on a server that does not serve this queue.
func TestTasksOfOtherQueuesAreRefused(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	m := newMeters()
	info, err := b.client.Enqueue(asynq.NewTask("pay", []byte("low")), asynq.Queue("low"))
	require.NoError(t, err)
	msg, err := b.rdb.HGet(t.Context(), "asynq:{low}:t:"+info.ID, "msg").Result()
	require.NoError(t, err)
	require.NoError(t, b.rdb.HSet(t.Context(), "asynq:{default}:t:"+info.ID, "msg", msg, "state", "pending").Err())
	require.NoError(t, b.rdb.LPush(t.Context(), "asynq:{default}:pending", info.ID).Err())
	base := func() context.Context { return context.WithValue(t.Context(), m, "the application's") }
	serve(t, b.conn, b.e, asynq.Config{BaseContext: base}, never(t), asynqjobs.WithMeterProvider(m.provider))
	eventually(t, "refused", patience, func() bool { return m.counts(t)["refused unauthentic"] == 1 })

	var rec recorder
	serve(t, b.conn, b.e, asynq.Config{BaseContext: base, Queues: map[string]int{"low": 1}}, asynq.HandlerFunc(func(ctx context.Context, task *asynq.Task) error {
		rec.add(string(task.Payload()) + " " + ctx.Value(m).(string))
		return nil
	}))
	eventually(t, "run where it belongs", patience, func() bool { return len(rec.all()) == 1 })
	require.Equal(t, []string{"low the application's"}, rec.all())
}

// Planted tasks with huge ids do not fill the log.
func TestHugeIDsInTheLog(t *testing.T) {
	t.Parallel()
	b := newBench(t, nil)
	id := strings.Repeat("i", 1<<20)
	_, err := b.plain.Enqueue(asynq.NewTask("t", nil), asynq.TaskID(id))
	require.NoError(t, err)
	var written sealtest.Logs
	serve(t, b.conn, b.e, asynq.Config{}, never(t), asynqjobs.WithLogger(written.Logger()))
	b.awaitState(t, "default", id, asynq.TaskStateArchived)
	require.Contains(t, written.String(), "[1048064 bytes more]")
	require.Less(t, len(written.String()), 2<<10)
	cfg, err := asynqjobs.Config(b.e, asynq.Config{}, asynqjobs.WithLogger(written.Logger()))
	require.NoError(t, err)
	cfg.Logger.Warn("Retry exhausted for task id=" + id) // as asynq does
	require.Less(t, len(written.String()), 40<<10)
}

// parted takes the claim off a payload, without its length.
func parted(payload []byte) (value []byte, claim string) {
	n := len(payload) - 2
	start := n - int(binary.BigEndian.Uint16(payload[n:]))
	return payload[:start], string(payload[start:n])
}

// claiming is a payload of a value and a claim.
func claiming(value []byte, claim string) []byte {
	return binary.BigEndian.AppendUint16(append(slices.Clone(value), claim...), uint16(len(claim)))
}
