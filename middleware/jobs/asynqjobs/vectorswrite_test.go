package asynqjobs_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/tink"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/sealcache/sealcache/middleware/jobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
)

var writeVectors = flag.Bool("write-vectors", false, "add the vectors of jobs to "+vectorsPath+", if it has none")

// writeJobVectors adds the vectors of jobs to the file b, of which it changes nothing else.
func writeJobVectors(t *testing.T, b []byte) []byte {
	t.Helper()
	vs := new(vectorFile)
	require.NoError(t, json.Unmarshal(b, vs))
	require.NotNil(t, vs.Jobs, "the PRF keyset stays")
	require.Empty(t, vs.Jobs.Tasks, "vectors of a released format are never edited")
	require.Empty(t, vs.Jobs.Refused)

	ns := sealing{Keyset: "aes256gcm", Namespace: "ns"}
	add := func(name string, s sealing, stored storedTask, more openedTask) taskVector {
		v := taskVector{Name: name, sealing: s, Stored: stored}
		e, bare, _ := s.keysOf(t, vs)
		v.Opened = openStored(t, e, stored)
		v.Opened.Unique = more.Unique
		v.Values = v.values(t)
		for i, value := range v.Values {
			p, err := bare.Decrypt(value.Sealed[len(headerOf(value.Sealed)):], value.AssociatedData)
			require.NoError(t, err, name)
			v.Values[i].Plaintext = p
		}
		vs.Jobs.Tasks = append(vs.Jobs.Tasks, v)
		return v
	}
	storedAs := func(i *asynq.TaskInfo) storedTask {
		return storedTask{Type: i.Type, Queue: i.Queue, ID: i.ID, Group: i.Group, Payload: i.Payload, Headers: i.Headers, Result: i.Result, LastErr: i.LastErr}
	}
	enqueue := func(name string, s sealing, task *asynq.Task, hidden bool, eopts []jobs.Option, opts ...asynq.Option) taskVector {
		e, _, _ := s.keysOf(t, vs, eopts...)
		var copts []asynqjobs.Option
		if hidden {
			copts = append(copts, asynqjobs.WithHiddenTypes())
		}
		b := newBench(t, e, copts...)
		has := func(want asynq.OptionType) bool {
			return slices.ContainsFunc(opts, func(o asynq.Option) bool { return o.Type() == want })
		}
		unique := has(asynq.UniqueOpt)
		if !has(asynq.GroupOpt) {
			opts = append(opts, asynq.ProcessIn(time.Hour))
		}
		info, err := b.client.Enqueue(task, opts...)
		require.NoError(t, err)
		info, err = b.inspector.GetTaskInfo(info.Queue, info.ID)
		require.NoError(t, err)
		return add(name, s, storedAs(info), openedTask{Unique: unique})
	}
	payload := []byte(`{"to":"ada@example.org"}`)
	mail := asynq.NewTask("mail:welcome", payload)
	traced := asynq.NewTaskWithHeaders("mail:welcome", payload, map[string]string{"trace": "1", "": "empty name"})
	id := asynq.TaskID("order-1")
	good := enqueue("payload", ns, mail, false, nil)
	enqueue("payload, own id, queue", ns, mail, false, nil, id, asynq.Queue("low"))
	enqueue("payload, no namespace, envelope", sealing{Keyset: "aes256gcm", Envelope: true}, mail, false, nil, id)
	enqueue("payload, xchacha20", sealing{Keyset: "xchacha20", Namespace: "ns"}, mail, false, nil, id)
	enqueue("payload, raw keyset", sealing{Keyset: "aes256gcm-raw"}, mail, false, nil, id)
	enqueue("empty payload", ns, asynq.NewTask("t", nil), false, nil, id)
	enqueue("compressed payload", ns, asynq.NewTask("t", bytes.Repeat([]byte("sealcache "), 50)), false, []jobs.Option{jobs.WithCompression(0)}, id)
	member := enqueue("member of a group", ns, mail, false, nil, id, asynq.Group("batch"))
	enqueue("hidden type", ns, mail, true, nil, id)
	enqueue("headers", ns, traced, false, nil, id)
	unique := enqueue("unique", ns, mail, false, nil, id, asynq.Unique(time.Hour))
	enqueue("hidden, headers, unique, in a group, compressed", ns,
		asynq.NewTaskWithHeaders("mail:welcome", bytes.Repeat(payload, 20), traced.Headers()), true, []jobs.Option{jobs.WithCompression(0)}, asynq.Group("batch"), asynq.Unique(time.Hour))

	// Result and failures.
	e, _, _ := ns.keysOf(t, vs)
	run := newBench(t, e)
	for name, opts := range map[string][]asynq.Option{"result": {asynq.Retention(time.Hour)}, "error": {asynq.MaxRetry(0)}} {
		_, err := run.client.Enqueue(mail, append(opts, asynq.TaskID(name))...)
		require.NoError(t, err)
	}
	serve(t, run.conn, e, asynq.Config{}, asynq.HandlerFunc(func(ctx context.Context, _ *asynq.Task) error {
		if id, _ := asynq.GetTaskID(ctx); id == "result" {
			return asynqjobs.WriteResult(ctx, []byte("250 accepted"))
		}
		return errors.New("550 no such user")
	}))
	add("result", ns, storedAs(run.awaitState(t, "default", "result", asynq.TaskStateCompleted)), openedTask{})
	add("error", ns, storedAs(run.awaitState(t, "default", "error", asynq.TaskStateArchived)), openedTask{})

	// With trace context.
	tracers := sdktrace.NewTracerProvider()
	ctx, span := tracers.Tracer("t").Start(t.Context(), "request")
	span.End()
	traces := newBench(t, e, asynqjobs.WithTracerProvider(tracers))
	info, err := traces.client.EnqueueContext(ctx, mail, id, asynq.ProcessIn(time.Hour))
	require.NoError(t, err)
	info, err = traces.inspector.GetTaskInfo(info.Queue, info.ID)
	require.NoError(t, err)
	add("trace context", ns, storedAs(info), openedTask{})

	// A member of a group under a key that is not known yet.
	g := newGroupAggregation(t)
	_, out := g.aggregate(e, g.members(newEncryptor(t, nil), 1, 10), nil)
	require.NotNil(t, out)
	info, err = g.plain.Enqueue(out, asynq.ProcessIn(time.Hour))
	require.NoError(t, err)
	info, err = g.insp.GetTaskInfo(info.Queue, info.ID)
	require.NoError(t, err)
	add("held member of a group", ns, storedAs(info), openedTask{})

	refuse := func(name, err string, v taskVector, change func(s *storedTask)) {
		v.Stored.Payload, v.Stored.Headers = slices.Clone(v.Stored.Payload), maps.Clone(v.Stored.Headers)
		change(&v.Stored)
		vs.Jobs.Refused = append(vs.Jobs.Refused, taskVector{Name: name, sealing: v.sealing, Stored: v.Stored, Refused: err})
	}
	refuse("plaintext", "ErrNotSealed", good, func(s *storedTask) { s.Payload = payload })
	refuse("another id", "ErrUnauthentic", good, func(s *storedTask) { s.ID = "another" })
	refuse("another queue", "ErrUnauthentic", good, func(s *storedTask) { s.Queue = "low" })
	refuse("another type", "ErrUnauthentic", good, func(s *storedTask) { s.Type = "mail:other" })
	refuse("value altered", "ErrUnauthentic", good, func(s *storedTask) { s.Payload[len(headerOf(s.Payload))+20] ^= 1 })
	refuse("claim altered", "ErrUnauthentic", good, func(s *storedTask) { s.Payload[len(s.Payload)-3] ^= 1 })
	refuse("claim's length altered", "ErrUnauthentic", good, func(s *storedTask) { s.Payload[len(s.Payload)-1]++ })
	refuse("taken for a frame", "ErrUnauthentic", good, func(s *storedTask) {
		n := int(binary.BigEndian.Uint16(s.Payload[len(s.Payload)-2:]))
		s.Payload[len(s.Payload)-2-n] ^= 1
	})
	refuse("another version", "ErrUnsupportedFormat", good, func(s *storedTask) { s.Payload[2] = 2 })
	refuse("another kind", "ErrUnauthentic", good, func(s *storedTask) { s.Payload[3] = 3 })
	refuse("another namespace", "ErrUnauthentic", good, func(*storedTask) {})
	vs.Jobs.Refused[len(vs.Jobs.Refused)-1].Namespace = "other"
	refuse("another keyset", "ErrUnknownKey", good, func(*storedTask) {})
	vs.Jobs.Refused[len(vs.Jobs.Refused)-1].Keyset = "xchacha20"
	refuse("tag altered", "ErrUnauthentic", unique, func(s *storedTask) { s.Payload[len(s.Payload)-1] ^= 1 })
	refuse("tag without its task", "rewritten", unique, func(s *storedTask) { s.Headers = nil })
	refuse("under the id that a member of a group is bound to", "ErrUnauthentic", member, func(s *storedTask) {
		value, _ := parted(s.Payload)
		s.ID, s.Group = "\x00group5:batch"+s.ID, ""
		s.Payload = claiming(value, fmt.Sprintf("\x007:default%d:%s", len(s.ID), s.ID))
	})

	if len(vs.Jobs.Schedules) == 0 {
		writeScheduleVectors(t, vs, ns, traced)
	}
	return replaceJobVectors(t, b, vs.Jobs)
}

// writeScheduleVectors adds the vectors of schedules.
func writeScheduleVectors(t *testing.T, vs *vectorFile, ns sealing, task *asynq.Task) {
	t.Helper()
	for _, when := range []asynqjobs.Schedule{asynqjobs.Every(90 * time.Second), asynqjobs.Cron("CRON_TZ=Europe/Berlin 30 4 * * *")} {
		e, bare, _ := ns.keysOf(t, vs)
		w := newClockwork(t)
		w.e = e
		w.c, w.s = w.with(e)
		_, err := w.s.ScheduleOnce(t.Context(), "nightly", when, task, asynq.Queue("low"), asynq.MaxRetry(3))
		require.NoError(t, err)
		infos, err := w.s.List(t.Context())
		require.NoError(t, err)
		v := storedSchedule(t, w, ns, bare, when.String())
		v.Tick = infos[0].Next.UnixMilli()
		w.now = infos[0].Next
		w.advance(0)
		w.run()
		tasks, err := w.insp.ListPendingTasks("low")
		require.NoError(t, err)
		require.Len(t, tasks, 1)
		v.TickID = tasks[0].ID
		vs.Jobs.Schedules = append(vs.Jobs.Schedules, v)
	}
	writeCancellationVector(t, vs, ns)
}

// writeCancellationVector adds the vector of a cancellation that follows a call of the same time.
func writeCancellationVector(t *testing.T, vs *vectorFile, ns sealing) {
	t.Helper()
	e, bare, _ := ns.keysOf(t, vs)
	w := newClockwork(t)
	_, w.s = w.with(e)
	w.once("nightly", asynqjobs.Every(time.Hour), "")
	require.True(t, w.cancel(w.s, "nightly"))
	vs.Jobs.Schedules = append(vs.Jobs.Schedules, storedSchedule(t, w, ns, bare, "cancelled"))
}

// storedSchedule returns the vector of the only schedule that is stored.
func storedSchedule(t *testing.T, w *clockwork, ns sealing, bare tink.AEAD, name string) scheduleVector {
	t.Helper()
	v := scheduleVector{Name: name, sealing: ns}
	for field, raw := range w.rdb.HGetAll(t.Context(), "{sealcache:jobs:ns}:schedules").Val() {
		v.Field, v.Value.Of, v.Value.Sealed = field, "schedule", []byte(raw)
	}
	v.Value.AssociatedData = v.associatedData(5, "", "", v.Field, v.Value.Sealed)
	var err error
	v.Value.Plaintext, err = bare.Decrypt(v.Value.Sealed[len(headerOf(v.Value.Sealed)):], v.Value.AssociatedData)
	require.NoError(t, err)
	return v
}

// replaceJobVectors writes the file b with other vectors of jobs. They are the last member of the file.
func replaceJobVectors(t *testing.T, b []byte, v *jobVectors) []byte {
	t.Helper()
	added, err := json.MarshalIndent(v, "\t", "\t")
	require.NoError(t, err)
	before, _, ok := bytes.Cut(b, []byte(",\n\t\"jobs\": "))
	require.True(t, ok)
	b = slices.Concat(before, []byte(",\n\t\"jobs\": "), added, []byte("\n}\n"))
	require.NoError(t, os.WriteFile(vectorsPath, b, 0o644))
	return b
}
