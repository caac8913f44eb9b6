package wire_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sealcache/sealcache/middleware/internal/wire"
)

func TestHeaderFollowsFORMAT(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		h   wire.Header
		hex string
	}{
		{wire.Header{Kind: wire.CacheValue, Type: wire.Bytes}, "c15c01010100"},
		{wire.Header{Kind: wire.CacheValue, Type: wire.Float64}, "c15c01011000"},
		{wire.Header{Kind: wire.CacheValue, Type: wire.Custom}, "c15c01014000"},
		{wire.Header{Kind: wire.JobPayload, Type: wire.Bytes, Flags: wire.Bound, Names: wire.BoundType | wire.BoundQueue | wire.BoundID}, "c15c0102010807"},
		{wire.Header{Kind: wire.Schedule, Type: wire.Bytes}, "c15c01050100"},
		{wire.Header{Kind: wire.CacheValue, Type: wire.String, Flags: wire.Expires | wire.Padded, End: 1700000000000}, "c15c010102060000018bcfe56800"},
		{wire.Header{Kind: wire.CacheValue, Type: wire.JSON, Flags: wire.Compressed | wire.Hidden | wire.Named | wire.Tagged, PRFKey: 0x01020304}, "c15c0101207101020304"},
		{wire.Header{Kind: wire.CacheValue, Type: wire.String, Flags: wire.Expires | wire.Hidden, End: 1700000000000, PRFKey: 7}, "c15c010102120000018bcfe5680000000007"},
		{wire.Header{Kind: wire.JobResult, Type: wire.Bytes, Flags: wire.Compressed | wire.Bound, Names: wire.BoundQueue}, "c15c0103010902"},
	} {
		b := c.h.Append(nil)
		require.Equal(t, c.hex, hex.EncodeToString(b))
		require.Equal(t, len(b), c.h.Size())
		if c.h.Flags&(wire.Expires|wire.Hidden) == 0 {
			require.LessOrEqual(t, len(b), 8, "the design allows 8 bytes before the ciphertext")
		}
		got, n, err := wire.Parse(append(b, 0))
		require.NoError(t, err)
		require.Equal(t, c.h, got)
		require.Equal(t, len(b), n)
	}
}

func TestAssociatedDataFollowsFORMAT(t *testing.T) {
	t.Parallel()
	ad := wire.AppendContext(nil, wire.CacheValue, "ns")
	ad = wire.AppendName(ad, "key")
	require.Equal(t, "sealcache.v1\x01\x00\x00\x00\x02ns\x00\x00\x00\x03key", string(ad))
}

// Two different contexts are never encoded alike, however names are cut.
func TestContextsNeverCollide(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	names := []string{"", "a", "ab", "b", "a:b", ":", "\x00", "\x00\x00\x00\x01a", "a\x00\x00\x00\x01b"}
	for kind := wire.CacheValue; kind <= wire.Schedule; kind++ {
		for _, ns := range names {
			for _, key := range names {
				ad := string(wire.AppendName(wire.AppendContext(nil, kind, ns), key))
				id := kind.String() + "|" + hex.EncodeToString([]byte(ns)) + "|" + hex.EncodeToString([]byte(key))
				require.NotContains(t, seen, ad, "%s and %s", seen[ad], id)
				seen[ad] = id
			}
		}
	}
}

// Plaintext values never look sealed.
func TestPlaintextIsNotSealed(t *testing.T) {
	t.Parallel()
	for _, plaintext := range []string{"", "a", "42", "-1", "{}", "\"\\u00c1\"", "Á", "\xc3\x81", "\xc0\x5c", "\xc1", "\xc1\xc1", "\xc0", "\x00"} {
		require.False(t, wire.IsSealed([]byte(plaintext)), "%q", plaintext)
		_, _, err := wire.Parse([]byte(plaintext))
		require.ErrorIs(t, err, wire.ErrNotSealed, "%q", plaintext)
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for name, h := range map[string]string{
		"cut after the magic":             "c15c",
		"cut in the header":               "c15c010101",
		"no ciphertext":                   "c15c01010100",
		"version 0":                       "c15c00010100ff",
		"version 2":                       "c15c02010100ff",
		"kind 0":                          "c15c01000100ff",
		"kind 6, which has no values":     "c15c01060100ff",
		"kind 255":                        "c15c01ff0100ff",
		"type 0":                          "c15c01010000ff",
		"type between Go's and codecs":    "c15c01011100ff",
		"type above protobuf":             "c15c01012300ff",
		"type above custom":               "c15c01018000ff",
		"compressed, of a number":         "c15c01010401ff",
		"compressed, of a key check":      "c15c01070101ff",
		"a keyed tag":                     "c15cff" + strings.Repeat("00", 32),
		"end 0":                           "c15c010101020000000000000000ff",
		"end below 0":                     "c15c01010102ffffffffffffffffff",
		"cut before the end":              "c15c0101010200000000000001",
		"no ciphertext after the end":     "c15c010101020000000000000001",
		"expires, of a job":               "c15c010201020000000000000001ff",
		"padded, of a job":                "c15c01020104ff",
		"hidden, of a job":                "c15c01020110ff",
		"tagged, of a job":                "c15c01020140ff",
		"padded, of a key check":          "c15c01070104ff",
		"named and not hidden":            "c15c01010120ff",
		"flag 7":                          "c15c01010180ff",
		"cut in the PRF key":              "c15c01010110000000",
		"no ciphertext after the PRF key": "c15c0101011000000001",
		"bound names of a cache value":    "c15c0101010801ff",
		"bound names 0":                   "c15c0102010800ff",
		"bound names unknown":             "c15c0102010808ff",
		"cut before bound names":          "c15c01020108",
		"no ciphertext after bound names": "c15c0102010801",
	} {
		b, err := hex.DecodeString(h)
		require.NoError(t, err)
		_, _, err = wire.Parse(b)
		require.ErrorIs(t, err, wire.ErrUnsupportedFormat, name)
	}
}

func TestTagIsNeitherValueNorPlaintext(t *testing.T) {
	t.Parallel()
	tag := wire.AppendTag(nil, [wire.TagSize]byte{1})
	require.True(t, wire.IsSealed(tag))
	require.True(t, wire.IsTag(tag))
	require.False(t, wire.IsTag(tag[:len(tag)-1]))
	require.False(t, wire.IsTag(append(tag, 0)))
	value := wire.Header{Kind: wire.JobPayload, Type: wire.Bytes}.Append(nil)
	require.False(t, wire.IsTag(append(value, make([]byte, 3+wire.TagSize-len(value))...)))
}

func TestKeyOf(t *testing.T) {
	t.Parallel()
	tag := make([]byte, 16)
	envelope := func(wrapped []byte) wire.Key {
		ct := binary.BigEndian.AppendUint32(nil, uint32(len(wrapped)))
		return wire.KeyOf(append(append(ct, wrapped...), tag...))
	}
	k := wire.KeyOf(append([]byte{1, 0, 0, 0, 7}, tag...))
	require.Equal(t, wire.Key{ID: 7, HasID: true}, k)
	require.Equal(t, "key 7", k.String())

	k = envelope(append([]byte{1, 0, 0, 1, 0}, tag...))
	require.True(t, k.Envelope())
	require.Equal(t, uint32(256), k.ID)
	require.True(t, k.HasID)
	require.Len(t, k.DataKey(), 16)
	require.Equal(t, "key 256 of a KEK", k.String())

	// A ciphertext of AWS KMS begins like a key id of Tink.
	k = envelope(append([]byte{1, 2, 2, 0, 0x78}, make([]byte, 180)...))
	require.True(t, k.Envelope())
	require.False(t, k.HasID)

	// So does one in 256 ciphertexts of RSA keys.
	k = envelope(append([]byte{1, 9, 9, 9, 9}, make([]byte, 251)...))
	require.True(t, k.Envelope())
	require.False(t, k.HasID)
	require.Equal(t, "data key "+k.DataKey(), k.String())

	// A data key that package aead wrapped under a passphrase.
	under := func(b byte, n int) wire.Key {
		return envelope(append([]byte("\x02pass"), bytes.Repeat([]byte{b}, n)...))
	}
	k = under(1, 32+12+34+16)
	require.True(t, k.Envelope())
	require.False(t, k.HasID)
	require.Len(t, k.Passphrase(), 16)
	require.Equal(t, "KEK passphrase "+k.Passphrase(), k.String())
	require.Equal(t, k.Passphrase(), under(1, 32+12+18+16).Passphrase())
	require.NotEqual(t, k.Passphrase(), under(2, 32+12+34+16).Passphrase())
	require.Empty(t, under(1, 50).Passphrase(), "too short")

	require.Equal(t, "KEK vault:v12", envelope([]byte("vault:v12:AAAA")).String())
	for _, w := range []string{"vault:v:AAAA", "vault:v1", "vault:vx:AAAA", "vault:v1234567890:AAAA"} {
		require.Empty(t, envelope([]byte(w)).Version, w)
	}

	for _, b := range [][]byte{nil, {0}, {0, 0, 0, 1}, {0, 0, 0, 0, 1}, {0xff, 0xff, 0xff, 0xff, 1}, {0, 0, 0x10, 0x01, 1}, {1, 0, 0, 0, 7}} {
		k := wire.KeyOf(b)
		require.Zero(t, k, "%x", b)
		require.Equal(t, "unnamed", k.String())
	}
}

func TestStoredKey(t *testing.T) {
	t.Parallel()
	header := wire.Header{Kind: wire.CacheValue, Type: wire.Bytes}.Append(nil)
	ct := append([]byte{1, 0, 0, 0, 7}, make([]byte, 16)...)
	require.Equal(t, wire.KeyOf(ct), wire.StoredKey(append(header, ct...)))
	require.True(t, wire.StoredKey(append(header, ct...)).HasID)
	for _, b := range [][]byte{nil, ct, header[:len(header)-1], header} {
		require.Zero(t, wire.StoredKey(b), "%x", b)
	}
}

// A reader of the start of a value knows from KeyBytes whether it needs more of the value.
func TestKeyBytes(t *testing.T) {
	t.Parallel()
	for wrapped, want := range map[uint32]int{
		0: 0, 1: 4 + 1 + 16, 290: 4 + 290 + 16, wire.MaxWrappedBytes: wire.MaxKeyBytes, wire.MaxWrappedBytes + 1: 0, 1 << 31: 0,
	} {
		start := binary.BigEndian.AppendUint32(nil, wrapped)
		require.Equal(t, want, wire.KeyBytes(start), wrapped)
		require.Zero(t, wire.KeyBytes(start[:3]))
		if want > 0 {
			whole := append(start, make([]byte, want-len(start))...)
			require.Len(t, wire.KeyOf(whole).Wrapped, int(wrapped))
			require.Nil(t, wire.KeyOf(whole[:want-1]).Wrapped)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte{0xC1, 0x5C, 1, 1, 1, 0, 0})
	f.Add([]byte{0xC1, 0x5C, 1, 2, 1, 8, 7, 0, 0, 0, 20})
	f.Add([]byte{0xC1, 0x5C, 1, 1, 2, 0x77, 0, 0, 1, 0x8b, 0xcf, 0xe5, 0x68, 0, 0, 0, 0, 9, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		h, n, err := wire.Parse(b)
		require.Equal(t, before, b)
		if err != nil {
			if !errors.Is(err, wire.ErrNotSealed) && !errors.Is(err, wire.ErrUnsupportedFormat) {
				t.Fatalf("undocumented error %v", err)
			}
			return
		}
		if n >= len(b) || n > wire.MaxHeaderSize {
			t.Fatalf("header of %d bytes in a value of %d", n, len(b))
		}
		if again := h.Append(nil); !bytes.Equal(again, b[:n]) {
			t.Fatalf("header %x would be written as %x", b[:n], again)
		}
		_ = wire.KeyOf(b[n:]).String()
	})
}
