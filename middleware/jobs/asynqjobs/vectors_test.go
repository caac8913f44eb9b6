package asynqjobs_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/prf"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/middleware/jobs"
	"github.com/sealcache/sealcache/middleware/jobs/asynqjobs"
)

// The test vectors of jobs, the member "jobs" of middleware/testdata/vectors.json; FORMAT.md describes them. The checks
// here use FORMAT.md and Tink alone, next to this package.
type (
	vectorFile struct {
		Keysets map[string]json.RawMessage `json:"keysets"`
		Jobs    *jobVectors                `json:"jobs"`
	}
	jobVectors struct {
		PRF       json.RawMessage  `json:"prf"`
		Tasks     []taskVector     `json:"tasks"`
		Refused   []taskVector     `json:"refused"`
		Schedules []scheduleVector `json:"schedules"`
	}
	sealing struct {
		Keyset    string `json:"keyset"`
		Envelope  bool   `json:"envelope,omitempty"`
		Namespace string `json:"namespace,omitempty"`
	}
	taskVector struct {
		Name string `json:"name"`
		sealing
		Stored  storedTask    `json:"stored"`
		Opened  *openedTask   `json:"opened,omitempty"`
		Values  []sealedValue `json:"values,omitempty"`
		Refused string        `json:"error,omitempty"`
	}
	// storedTask is a task as asynq has it.
	storedTask struct {
		Type    string            `json:"type"`
		Queue   string            `json:"queue"`
		ID      string            `json:"id"`
		Group   string            `json:"group,omitempty"`
		Payload hexBytes          `json:"payload_hex"`
		Headers map[string]string `json:"headers,omitempty"`
		Result  hexBytes          `json:"result_hex,omitempty"`
		LastErr string            `json:"error_msg,omitempty"`
	}
	// openedTask is the same task opened.
	openedTask struct {
		Type    string            `json:"type"`
		Payload hexBytes          `json:"payload_hex"`
		Headers map[string]string `json:"headers,omitempty"`
		Result  hexBytes          `json:"result_hex,omitempty"`
		LastErr string            `json:"error_msg,omitempty"`
		Unique  bool              `json:"unique,omitempty"`
		Held    *storedMember     `json:"held,omitempty"`
		Trace   map[string]string `json:"trace,omitempty"`
	}
	storedMember struct {
		Type    string            `json:"type"`
		Payload hexBytes          `json:"payload_hex"`
		Headers map[string]string `json:"headers,omitempty"`
	}
	sealedValue struct {
		Of             string   `json:"of"`
		AssociatedData hexBytes `json:"associated_data_hex"`
		Sealed         hexBytes `json:"sealed_hex"`
		Plaintext      hexBytes `json:"plaintext_hex"` // of the AEAD: with the flag compressed, the zstd frame
	}
	scheduleVector struct {
		Name string `json:"name"`
		sealing
		Field  string      `json:"field"`
		Value  sealedValue `json:"value"`
		Tick   int64       `json:"tick_ms,omitempty"` // of a cancellation there is none
		TickID string      `json:"tick_id,omitempty"`
	}
	hexBytes []byte
)

func (h hexBytes) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(h)), nil }

func (h *hexBytes) UnmarshalText(b []byte) (err error) {
	*h, err = hex.DecodeString(string(b))
	return err
}

const vectorsPath = "../../testdata/vectors.json"

// keysOf returns an encryptor of the vectors' keys, Tink's own AEAD of them, and the PRF.
func (s sealing) keysOf(t *testing.T, vs *vectorFile, opts ...jobs.Option) (*jobs.Encryptor, tink.AEAD, prf.PRF) {
	t.Helper()
	handle := func(b []byte) *keyset.Handle {
		h, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(bytes.NewReader(b)))
		require.NoError(t, err)
		return h
	}
	h := handle(vs.Keysets[s.Keyset])
	bare, err := tinkaead.New(h)
	require.NoError(t, err)
	k, err := aead.NewKeyring(h)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, k.Close()) })
	var a tink.AEADWithContext = k
	if s.Envelope {
		bare = tinkaead.NewKMSEnvelopeAEAD2(tinkaead.AES256GCMKeyTemplate(), bare)
		e, err := aead.NewEnvelope(t.Context(), k)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, e.Close()) })
		a = e
	}
	set, err := prf.NewPRFSet(handle(vs.Jobs.PRF))
	require.NoError(t, err)
	opts = append(opts, jobs.WithPRF(set), jobs.WithLogger(quiet))
	if s.Namespace != "" {
		opts = append(opts, jobs.WithNamespace(s.Namespace))
	}
	e, err := jobs.NewEncryptor(a, opts...)
	require.NoError(t, err)
	return e, bare, set.PRFs[set.PrimaryID]
}

func (s storedTask) info() *asynq.TaskInfo {
	return &asynq.TaskInfo{
		ID: s.ID, Queue: s.Queue, Type: s.Type, Payload: s.Payload, Headers: s.Headers, Group: s.Group, Result: s.Result, LastErr: s.LastErr,
	}
}

// These functions follow FORMAT.md without this package.

func field(s string) string {
	return string(binary.BigEndian.AppendUint32(nil, uint32(len(s)))) + s
}

func netstring(s string) string { return strconv.Itoa(len(s)) + ":" + s }

// token is a keyed token.
func (s sealing) token(t *testing.T, f prf.PRF, domain string, parts ...string) []byte {
	t.Helper()
	input := "sealcache.token.v1" + field(s.Namespace) + field(domain)
	for _, p := range parts {
		input += string(binary.BigEndian.AppendUint64(nil, uint64(len(p)))) + p
	}
	out, err := f.ComputePRF([]byte(input), 32)
	require.NoError(t, err)
	return out
}

func base64url(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// headerOf is the header of a sealed value, all of which are bound to something here.
func headerOf(sealed []byte) []byte { return sealed[:7] }

func (s sealing) associatedData(kind byte, typename, queue, id string, sealed []byte) []byte {
	return []byte("sealcache.v1" + string(kind) + field(s.Namespace) + field(typename) + field(queue) + field(id) + string(headerOf(sealed)))
}

// sealedTask takes a sealed task apart.
func (s storedTask) sealedTask(t *testing.T) (value []byte, boundQueue, boundID string) {
	t.Helper()
	b := []byte(s.Payload)
	if text, ok := s.Headers["sealcache-payload"]; ok {
		var err error
		b, err = base64.RawStdEncoding.DecodeString(text)
		require.NoError(t, err)
	}
	n := int(binary.BigEndian.Uint16(b[len(b)-2:]))
	value, claim := b[:len(b)-2-n], string(b[len(b)-2-n:len(b)-2])
	net := func() string {
		length, rest, _ := strings.Cut(claim, ":")
		n, err := strconv.Atoi(length)
		require.NoError(t, err)
		claim = rest[n:]
		return rest[:n]
	}
	flags := claim[0]
	claim = claim[1:]
	queue, group := net(), ""
	var id string
	if flags&4 != 0 {
		h := hex.EncodeToString([]byte(claim[:16]))
		id, claim = strings.Join([]string{h[:8], h[8:12], h[12:16], h[16:20], h[20:]}, "-"), claim[16:]
	} else {
		id = net()
	}
	if flags&2 != 0 {
		group = net()
	}
	require.Empty(t, claim)
	require.Equal(t, s.ID, id)
	switch {
	case flags&1 != 0:
		id = "\x00frame" + netstring(group) + id
	case group != "":
		id = "\x00group" + netstring(group) + id
	}
	return value, queue, id
}

func headersField(h map[string]string) string {
	out := string(binary.BigEndian.AppendUint32(nil, uint32(len(h))))
	for _, name := range slices.Sorted(maps.Keys(h)) {
		out += field(name) + field(h[name])
	}
	return out
}

// frame is what is sealed of a task: its payload alone, or a frame.
func (v taskVector) frame(t *testing.T, f prf.PRF) []byte {
	t.Helper()
	o := v.Opened
	var flags byte
	body := ""
	if strings.HasPrefix(v.Stored.Type, "sealed:") {
		flags |= 1
		body += field(o.Type)
	}
	if len(o.Headers) > 0 {
		flags |= 2
		body += headersField(o.Headers)
	}
	if o.Unique {
		flags |= 4
		body += string(v.token(t, f, "asynqjobs.unique", o.Type, v.Stored.Queue, string(o.Payload)))
	}
	if m := o.Held; m != nil {
		flags |= 8
		body += field(m.Type) + headersField(m.Headers) + field(string(m.Payload))
	}
	if len(o.Trace) > 0 {
		flags |= 16
		body += headersField(o.Trace)
	}
	if flags == 0 {
		return o.Payload
	}
	return append(append([]byte{flags}, body...), o.Payload...)
}

// plaintext decompresses it if the header says so.
func (v sealedValue) plaintext(t *testing.T) []byte {
	t.Helper()
	if v.Sealed[5]&1 == 0 {
		return v.Plaintext
	}
	d, err := zstd.NewReader(nil)
	require.NoError(t, err)
	defer d.Close()
	b, err := d.DecodeAll(v.Plaintext, nil)
	require.NoError(t, err)
	return b
}

// values are the sealed values of a stored task, with what they are bound to, as FORMAT.md says.
func (v taskVector) values(t *testing.T) []sealedValue {
	t.Helper()
	s := v.Stored
	value, queue, id := s.sealedTask(t)
	all := []sealedValue{{Of: "payload", Sealed: value, AssociatedData: v.associatedData(2, s.Type, queue, id, value)}}
	if s.Result != nil {
		all = append(all, sealedValue{Of: "result", Sealed: s.Result, AssociatedData: v.associatedData(3, s.Type, s.Queue, s.ID, s.Result)})
	}
	if _, text, ok := strings.Cut(s.LastErr, "sealcache:sealed:"); ok {
		b, err := base64.RawStdEncoding.DecodeString(text)
		require.NoError(t, err)
		all = append(all, sealedValue{Of: "failure", Sealed: b, AssociatedData: v.associatedData(4, s.Type, s.Queue, s.ID, b)})
	}
	return all
}

func TestJobVectors(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(vectorsPath)
	require.NoError(t, err)
	if *writeVectors {
		b = writeJobVectors(t, b)
	}
	vs := new(vectorFile)
	require.NoError(t, json.Unmarshal(b, vs))
	require.NotNil(t, vs.Jobs, "no vectors of jobs")
	require.GreaterOrEqual(t, len(vs.Jobs.Tasks), 15)
	require.GreaterOrEqual(t, len(vs.Jobs.Refused), 8)
	require.GreaterOrEqual(t, len(vs.Jobs.Schedules), 2)
	var flags byte
	for _, v := range vs.Jobs.Tasks {
		e, bare, f := v.keysOf(t, vs)
		want := v.values(t)
		require.Len(t, v.Values, len(want), v.Name)
		for i, w := range want {
			got := v.Values[i]
			w.Plaintext = got.Plaintext
			require.Equal(t, w, got, v.Name)
			p, err := bare.Decrypt(got.Sealed[len(headerOf(got.Sealed)):], got.AssociatedData)
			require.NoError(t, err, v.Name)
			require.Equal(t, hex.EncodeToString(got.Plaintext), hex.EncodeToString(p), v.Name)
			switch got.Of {
			case "payload":
				frame := v.frame(t, f)
				require.Equal(t, hex.EncodeToString(frame), hex.EncodeToString(got.plaintext(t)), v.Name)
				if _, _, id := v.Stored.sealedTask(t); strings.HasPrefix(id, "\x00frame") {
					flags |= frame[0]
				}
			case "result":
				require.Equal(t, []byte(v.Opened.Result), got.plaintext(t))
			case "failure":
				require.Equal(t, v.Opened.LastErr, string(got.plaintext(t)))
			}
		}
		if name := v.Opened.Type; v.Stored.Type != name {
			require.Equal(t, "sealed:"+base64url(v.token(t, f, "asynqjobs.type", name)), v.Stored.Type, v.Name)
		}
		if v.Opened.Unique {
			tag := v.token(t, f, "asynqjobs.unique", v.Opened.Type, v.Stored.Queue, string(v.Opened.Payload))
			require.Equal(t, append([]byte{0xc1, 0x5c, 0xff}, tag...), []byte(v.Stored.Payload), v.Name)
		}
		opened := openStored(t, e, v.Stored)
		opened.Unique = v.Opened.Unique // no call shows it
		wantJSON, err := json.Marshal(v.Opened)
		require.NoError(t, err)
		gotJSON, err := json.Marshal(opened)
		require.NoError(t, err)
		require.JSONEq(t, string(wantJSON), string(gotJSON), v.Name)
	}
	require.EqualValues(t, 0x1f, flags, "every flag of frames is in some vector")

	errs := map[string]error{"ErrNotSealed": jobs.ErrNotSealed, "ErrUnauthentic": jobs.ErrUnauthentic, "ErrUnsupportedFormat": jobs.ErrUnsupportedFormat, "ErrUnknownKey": jobs.ErrUnknownKey,
		"rewritten": asynqjobs.ErrRewritten}
	for _, v := range vs.Jobs.Refused {
		e, _, _ := v.keysOf(t, vs)
		require.NotNil(t, errs[v.Refused], v.Refused)
		_, err := asynqjobs.OpenTask(t.Context(), e, v.Stored.info())
		require.ErrorIs(t, err, errs[v.Refused], v.Name)
	}
	for _, v := range vs.Jobs.Schedules {
		v.check(t, vs)
	}
}

func (v scheduleVector) check(t *testing.T, vs *vectorFile) {
	t.Helper()
	e, bare, f := v.keysOf(t, vs)
	var def struct {
		Name, Spec, Type string
		Payload, Seed    []byte
		Anchor           int64
		Ended            bool
	}
	require.Equal(t, v.associatedData(5, "", "", v.Field, v.Value.Sealed), []byte(v.Value.AssociatedData))
	p, err := bare.Decrypt(v.Value.Sealed[len(headerOf(v.Value.Sealed)):], v.Value.AssociatedData)
	require.NoError(t, err)
	require.Equal(t, string(v.Value.Plaintext), string(p))
	require.NoError(t, json.Unmarshal(p, &def))
	require.Equal(t, base64url(v.token(t, f, "asynqjobs.schedule", def.Name)), v.Field)
	require.Equal(t, v.Tick == 0, def.Ended)
	if def.Ended {
		w := newClockwork(t)
		_, s := w.with(e)
		require.NoError(t, w.rdb.HSet(t.Context(), "{sealcache:jobs:"+v.Namespace+"}:schedules", v.Field, []byte(v.Value.Sealed)).Err())
		require.Empty(t, w.names(s))
		require.False(t, w.cancel(s, def.Name))
		return
	}
	m := hmac.New(sha256.New, def.Seed)
	m.Write(binary.BigEndian.AppendUint64([]byte("sealcache.tick.v1"), uint64(v.Tick)))
	sum := m.Sum(nil)
	require.Equal(t, hex.EncodeToString(sum[:4])+"-tick-"+base64url(sum[4:16]), v.TickID)

	// A scheduler that finds it enqueues that tick.
	w := newClockwork(t)
	w.e = e
	w.c, w.s = w.with(e)
	require.NoError(t, w.rdb.HSet(t.Context(), "{sealcache:jobs:"+v.Namespace+"}:schedules", v.Field, []byte(v.Value.Sealed)).Err())
	w.now = time.UnixMilli(v.Tick)
	w.advance(0)
	infos, err := w.s.List(t.Context())
	require.NoError(t, err)
	require.Len(t, infos, 1)
	require.Equal(t, def.Name, infos[0].Name)
	require.Equal(t, def.Spec, infos[0].When.String())
	require.Equal(t, def.Type, infos[0].Type)
	require.Equal(t, def.Payload, infos[0].Payload)
	require.Equal(t, def.Anchor, infos[0].Since.UnixMilli())
	w.run()
	info, err := w.insp.GetTaskInfo(infos[0].Queue, v.TickID)
	require.NoError(t, err, v.Name)
	task, err := asynqjobs.OpenTask(t.Context(), e, info)
	require.NoError(t, err)
	require.Equal(t, def.Type, task.Type())
	require.Equal(t, def.Payload, task.Payload())
}

// openStored opens a task with this package.
func openStored(t *testing.T, e *jobs.Encryptor, s storedTask) *openedTask {
	t.Helper()
	task, err := asynqjobs.OpenTask(t.Context(), e, s.info())
	require.NoError(t, err)
	o := &openedTask{Type: task.Type(), Payload: task.Payload(), Headers: task.Headers()}
	if o.Result, err = asynqjobs.OpenResult(t.Context(), e, s.info()); s.Result != nil {
		require.NoError(t, err)
	}
	if strings.Contains(s.LastErr, "sealcache:sealed:") {
		o.LastErr, err = asynqjobs.OpenFailure(t.Context(), e, s.info())
		require.NoError(t, err)
	}
	if m := asynqjobs.HeldMember(t, e, s.info()); m != nil {
		o.Held = &storedMember{m.Type(), m.Payload(), m.Headers()}
	}
	o.Trace = asynqjobs.TraceOf(t, e, s.info())
	return o
}
