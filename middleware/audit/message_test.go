package audit

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
)

// The hashes of a queue may hold any bytes.
func FuzzParseMessage(f *testing.F) {
	good := protowire.AppendTag(nil, 1, protowire.BytesType)
	good = protowire.AppendString(good, "type")
	good = protowire.AppendTag(good, taskPayload, protowire.BytesType)
	good = protowire.AppendString(good, "payload")
	good = protowire.AppendTag(good, 5, protowire.VarintType)
	good = protowire.AppendVarint(good, 25)
	pair := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), "k")
	pair = protowire.AppendString(protowire.AppendTag(pair, 2, protowire.BytesType), "v")
	good = protowire.AppendBytes(protowire.AppendTag(good, taskHeaders, protowire.BytesType), pair)
	f.Add(good)
	f.Add([]byte{})
	f.Add([]byte{0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseMessage(b, taskPayload, taskError, taskHeaders, taskLast)
		if err == nil {
			require.LessOrEqual(t, len(m.payload)+len(m.failure), len(b))
		}
		var found findings
		found.job(&found.jobs.Payloads, b, m.headers)
		found.failure(string(b))
	})
}

func TestParseMessage(t *testing.T) {
	t.Parallel()
	b := protowire.AppendString(protowire.AppendTag(nil, taskPayload, protowire.BytesType), "payload")
	b = protowire.AppendString(protowire.AppendTag(b, taskError, protowire.BytesType), "reason")
	m, err := parseMessage(b, taskPayload, taskError, taskHeaders, taskLast)
	require.NoError(t, err)
	require.Equal(t, "payload", string(m.payload))
	require.Equal(t, "reason", m.failure)
	require.False(t, m.unknown)
	m, err = parseMessage(protowire.AppendString(protowire.AppendTag(bytes.Clone(b), 16, protowire.BytesType), "alice"), taskPayload, taskError, taskHeaders, taskLast)
	require.NoError(t, err)
	require.True(t, m.unknown)
	for i := 1; i < len(b); i++ {
		if i != 9 { // between the two fields
			_, err := parseMessage(b[:i], taskPayload, taskError, taskHeaders, taskLast)
			require.Error(t, err, i)
		}
	}
}
