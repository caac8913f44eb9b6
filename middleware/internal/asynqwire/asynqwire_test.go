package asynqwire

import (
	"bytes"
	"encoding/base64"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// explanations are written out, because a released text must stay as it is: ParseRefusal compares the whole text.
var explanations = map[Code]string{
	"not_sealed":              "the task is plaintext, but sealed tasks are expected",
	"unauthentic":             "the task was altered, moved or sealed under another key",
	"unsupported_format":      "a newer release sealed the task, or the task was cut off",
	"key_removed":             "the task was sealed under a key that is disabled or destroyed",
	"too_large":               "the task is larger than jobs.WithMaxPayloadBytes allows",
	"unknown_key":             "the task was sealed under a key that the keyset does not hold",
	"key_service_unavailable": "the key of the task could not be used at that time",
	"too_many_data_keys":      "too many values waited for the key service to decrypt their data keys",
	"rewritten":               "a worker older than asynq 0.26 has rewritten this task, and its sealed payload is gone",
	"no_group_client":         "the handler cannot put the task back into its group (give the handler WithGroupClient)",
	"no_task_context":         "the context of the handler does not come from an asynq.Server",
	"other":                   "the task could not be opened",
}

func TestRefusalsComeBack(t *testing.T) {
	t.Parallel()
	for c, explanation := range explanations {
		require.Equal(t, explanation, c.Explanation(), c)
		for _, want := range []Refusal{{Code: c}, {Code: c, Key: 4294967295, HasKey: true}, {Code: c, HasKey: true}} {
			got, ok := ParseRefusal(want.String())
			require.True(t, ok, want.String())
			require.Equal(t, want, got)
			require.Equal(t, RefusedFailure, ParseFailure(want.String()).Kind)
			require.Less(t, len(want.String()), 160)
		}
	}
}

// An application's error text must not parse as a refusal, because the audit would not count it as plaintext.
func TestTextsThatAreNotRefusals(t *testing.T) {
	t.Parallel()
	good := Refusal{Code: UnknownKey, Key: 17, HasKey: true}.String()
	for _, text := range []string{
		"", "x", "sealcache: refused [", "sealcache: refused []: ", "sealcache: refused [secret]: ", good + " secret", "x" + good,
		"sealcache: refused [other]: secret", "sealcache: refused [other]", "sealcache: refused [unknown_key key=017]: " + UnknownKey.Explanation(),
		"sealcache: refused [unknown_key key=+17]: " + UnknownKey.Explanation(), "sealcache: refused [unknown_key key=4294967296]: " + UnknownKey.Explanation(),
		"sealcache: refused [unknown_key key=secret]: " + UnknownKey.Explanation(),
	} {
		_, ok := ParseRefusal(text)
		require.False(t, ok, text)
	}
}

func TestFailures(t *testing.T) {
	t.Parallel()
	sealed := append([]byte{0xC1, 0x5C}, "value"...)
	text := SealedFailureText(sealed)
	tag := wire.AppendTag(nil, [wire.TagSize]byte{})
	for text, want := range map[string]Failure{
		"":                          {Kind: NoFailure},
		"context canceled":          {Kind: NoticeFailure},
		"asynq: task lease expired": {Kind: NoticeFailure},
		WithheldFailure(Other):      {Kind: NoticeFailure},
		"sealcache: error text withheld [secret]": {Kind: PlaintextFailure},
		"context canceled: secret":                {Kind: PlaintextFailure},
		text:                                      {Kind: SealedFailure, Sealed: sealed},
		"panic error cause by: " + text:           {Kind: SealedFailure, Before: "panic error cause by: ", Sealed: sealed},
		"handler not set":                         {Kind: NoticeFailure},
		"panic error cause by: panic [/a/x.go:7]: " + text:   {Kind: SealedFailure, Before: "panic error cause by: panic [/a/x.go:7]: ", Sealed: sealed},
		"panic error cause by: panic [/a b/x.go:7]: " + text: {Kind: SealedFailure, Before: "panic error cause by: panic [/a b/x.go:7]: ", Sealed: sealed},
		"panic error cause by: panic [a b/x.go:7]: " + text:  {Kind: PlaintextFailure},
		"panic [/a/x.go:]: " + text:                          {Kind: PlaintextFailure},
		"panic [secret,card 4111.go:7]: " + text:             {Kind: PlaintextFailure},
		"panic [/x.s:7]: " + text:                            {Kind: SealedFailure, Before: "panic [/x.s:7]: ", Sealed: sealed},
		"panic error cause by: panic: " + text:               {Kind: SealedFailure, Before: "panic error cause by: panic: ", Sealed: sealed},
		"panic [secret]: " + text:                            {Kind: PlaintextFailure},
		"secret " + text:                                     {Kind: PlaintextFailure},
		"panic error cause by: secret " + text:               {Kind: PlaintextFailure},
		text + "=":                                           {Kind: MalformedFailure},
		SealedFailureText(tag):                               {Kind: MalformedFailure},
		SealedFailureText([]byte("plain")):                   {Kind: MalformedFailure},
	} {
		require.Equal(t, want, ParseFailure(text), text)
	}
}

func TestCutPanic(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"panic error cause by: panic [/a/handler.go:7]: ":   "panic error cause by: ",
		"panic [/handler.go:7]: x":                          "x",
		"panic [D:/src/github.com/!x/y@v1.2+z/ä_1.s:70]: x": "x",
		"panic [example.com/~x/main.go:1]: x":               "x",
		"panic [/a b/handler.go:7]: x":                      "x",
		`panic [C:\Users\John Smith\w.go:12]: x`:            "x",
		"panic [c:/Users/José (2)/w.go:12]: x":              "x",
		`panic [\\server\a share\w.go:12]: x`:               "x",
		"panic [/srv/app(1)/w.go:3]: x":                     "x",
		"panic [/jenkins/My Job/x.go:7]: x":                 "x",
		"panic [/b/feature%2Fx/w.go:1]: x":                  "x",
		"panic [/b/c#,'&=/w.go:1]: x":                       "x",
		"panic [github.com/x/y/z.go:12]: x":                 "x",
		"panic [./main.go:12]: x":                           "x",
		"panic [main.go:12]: x":                             "x",
		"panic [secret,card 4111.go:7]: x":                  "panic [secret,card 4111.go:7]: x",
		"panic [my job/x.go:7]: x":                          "panic [my job/x.go:7]: x",
		"panic [feature%2Fx/w.go:1]: x":                     "panic [feature%2Fx/w.go:1]: x",
		`panic [\a b.go:1]: x`:                              `panic [\a b.go:1]: x`,
		"panic [C:a b.go:1]: x":                             "panic [C:a b.go:1]: x",
		"panic [CD:/a.go:1]: x":                             "panic [CD:/a.go:1]: x",
		"panic [user:secret.go:1]: x":                       "panic [user:secret.go:1]: x",
		"panic [/user:secret.go:1]: x":                      "panic [/user:secret.go:1]: x",
		"panic [C:/user:secret.go:1]: x":                    "panic [C:/user:secret.go:1]: x",
		"panic [/a]b.go:1]: x":                              "panic [/a]b.go:1]: x",
		"panic [/a\nb.go:1]: x":                             "panic [/a\nb.go:1]: x",
		"panic [/a\u202eb.go:1]: x":                         "panic [/a\u202eb.go:1]: x",
		"panic [/a\xffb.go:1]: x":                           "panic [/a\xffb.go:1]: x",
		"panic [/a.go:01]: x":                               "panic [/a.go:01]: x",
		"panic [/a.go:0]: x":                                "panic [/a.go:0]: x",
		"panic [a,b.go:7]: x":                               "panic [a,b.go:7]: x",
		"panic [/a/x.go:]: x":                               "panic [/a/x.go:]: x",
		"panic [/a/x.go:+7]: x":                             "panic [/a/x.go:+7]: x",
		"panic [/a/x.txt:7]: x":                             "panic [/a/x.txt:7]: x",
		"panic: ":                                           "panic: ",
		"panic error cause by: panic: ":                     "panic error cause by: panic: ",
		"panic [":                                           "panic [",
		"panic [x]: secret":                                 "panic [x]: secret",
		"text panic [x.go:1]: ":                             "text panic [x.go:1]: ",
		"":                                                  "",
	} {
		require.Equal(t, want, CutPanic(text))
	}
}

func TestShorten(t *testing.T) {
	t.Parallel()
	require.Equal(t, "abc", Shorten("abc", 3))
	require.Equal(t, "ab... [1 bytes more]", Shorten("abc", 2))
	require.Equal(t, "... [3 bytes more]", Shorten("\u20ac", 2))
}

func TestSealedPayload(t *testing.T) {
	t.Parallel()
	value := wire.Header{Kind: wire.JobPayload, Type: wire.Bytes}.Append(nil)
	value = append(value, bytes.Repeat([]byte("x"), 20)...)
	tag := wire.AppendTag(nil, [wire.TagSize]byte{1})
	encode := base64.RawStdEncoding.EncodeToString
	headers := func(b []byte) map[string]string { return map[string]string{PayloadHeader: encode(b)} }

	got, tagged, err := SealedPayload(value, nil)
	require.NoError(t, err)
	require.False(t, tagged)
	require.Equal(t, value, got)
	got, tagged, err = SealedPayload(tag, headers(value))
	require.NoError(t, err)
	require.True(t, tagged)
	require.Equal(t, value, got)

	for name, c := range map[string]struct {
		payload []byte
		headers map[string]string
		want    error
	}{
		"plaintext":             {[]byte("{}"), headers(value), wire.ErrNotSealed},
		"nothing":               {nil, nil, wire.ErrNotSealed},
		"a tag without headers": {tag, nil, ErrRewritten},
		"a tag, other headers":  {tag, map[string]string{"a": "b"}, ErrRewritten},
		"a value and a header":  {value, headers(value), aead.ErrUnauthentic},
		"a tag in the header":   {tag, headers(tag), aead.ErrUnauthentic},
		"text in the header":    {tag, headers([]byte("{}")), aead.ErrUnauthentic},
		"not base64":            {tag, map[string]string{PayloadHeader: "=="}, aead.ErrUnauthentic},
		"an unknown version":    {append([]byte{0xC1, 0x5C, 9}, value[3:]...), nil, wire.ErrUnsupportedFormat},
	} {
		_, _, err := SealedPayload(c.payload, c.headers)
		require.ErrorIs(t, err, c.want, name)
	}
}

func TestKeysOfSchedules(t *testing.T) {
	t.Parallel()
	for _, ns := range []string{"", "shop", "a.b-c_d"} {
		got, ok := ParseSchedulesKey(SchedulesKey(ns))
		require.True(t, ok)
		require.Equal(t, ns, got)
		got, ok = ParseTicksKey(TicksKey(ns))
		require.True(t, ok)
		require.Equal(t, ns, got)
		require.True(t, IsScheduleKey(TicksKey(ns)))
	}
	for _, name := range []string{"", "{sealcache:jobs:", "{sealcache:jobs:a}:schedules2", "{sealcache:jobs:a}:schedules}:schedules", "x{sealcache:jobs:a}:schedules"} {
		_, ok := ParseSchedulesKey(name)
		require.False(t, ok, name)
	}
	require.True(t, IsTaskKey("asynq:{default}:t:id"))
	require.False(t, IsTaskKey("asynq:{default}:pending"))
}

func TestScheduleVersions(t *testing.T) {
	t.Parallel()
	require.True(t, IsScheduleVersion("ABCDEFGHIJ27"))
	for _, text := range []string{"", "1", "ABCDEFGHIJ2", "ABCDEFGHIJ277", "ABCDEFGHIJ2 ", "alice@home12", "ABCDEFGHIJ27\n", "ABCDEFGHIJ27 1 ABCDEFGHIJ27"} {
		require.False(t, IsScheduleVersion(text), text)
	}
}
