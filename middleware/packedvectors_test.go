package middleware_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math/bits"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/eko/gocache/lib/v4/store"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/prf"

	"github.com/sealcache/sealcache/middleware"
)

// packedVectors are described in FORMAT.md: values with each flag of a cache value.
type packedVectors struct {
	Format  string                     `json:"format"`
	Keysets map[string]json.RawMessage `json:"keysets"`
	PRF     json.RawMessage            `json:"prf"`
	Values  []packedVector             `json:"values"`
	Refused []packedVector             `json:"refused"`
}

type packedVector struct {
	vector
	Flags  string   `json:"flags,omitempty"` // of the writer's options, in letters
	Stored string   `json:"stored"`
	End    int64    `json:"end,omitempty"`
	Tags   []string `json:"tags,omitempty"`
	Value  string   `json:"value_hex,omitempty"`
}

const packedVectorsFile = "testdata/packed.json"

func (v packedVectors) prfSet(t *testing.T) *prf.Set {
	t.Helper()
	h, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(bytes.NewReader(v.PRF)))
	require.NoError(t, err)
	set, err := prf.NewPRFSet(h)
	require.NoError(t, err)
	return set
}

// decoded is what a decoder that knows FORMAT.md alone learns from a stored value.
type decoded struct {
	end       int64
	prfKey    uint32
	key       *string
	tags      []string
	value     []byte
	ad        []byte
	plaintext []byte
}

var errFormat = errors.New("not of the format")

// decodeByFormat decodes a cache value as FORMAT.md describes it, with the Go standard library, Tink and the codecs.
func decodeByFormat(open func(ct, ad []byte) ([]byte, error), namespace, stored string, b []byte) (d decoded, err error) {
	if len(b) < 7 || b[0] != 0xC1 || b[1] != 0x5C || b[2] != 1 || b[3] != 1 {
		return d, errFormat
	}
	flags, n := b[5], 6
	number := b[4] >= 3 && b[4] <= 0x10
	if flags&0x88 != 0 || flags&0x20 != 0 && flags&0x10 == 0 || flags&1 != 0 && number {
		return d, errFormat
	}
	if flags&2 != 0 {
		if len(b) < 15 {
			return d, errFormat
		}
		d.end, n = int64(binary.BigEndian.Uint64(b[6:])), 14
		if d.end < 1 {
			return d, errFormat
		}
	}
	if flags&0x10 != 0 {
		if len(b) < n+5 {
			return d, errFormat
		}
		d.prfKey, n = binary.BigEndian.Uint32(b[n:]), n+4
	}
	name := func(s string) []byte {
		return append(binary.BigEndian.AppendUint32(nil, uint32(len(s))), s...)
	}
	d.ad = append([]byte("sealcache.v1\x01"), name(namespace)...)
	if namespace != "" {
		stored = strings.TrimPrefix(stored, namespace+":")
	}
	d.ad = append(append(d.ad, name(stored)...), b[:n]...)
	if d.plaintext, err = open(b[n:], d.ad); err != nil {
		return d, err
	}
	rest := d.plaintext
	if flags&4 != 0 {
		trimmed := bytes.TrimRight(rest, "\x00")
		if len(trimmed) == 0 || trimmed[len(trimmed)-1] != 0x80 {
			return d, errFormat
		}
		padded := len(trimmed)
		if padded > 1 {
			e := bits.Len(uint(padded)) - 1 // floor(log2)
			s := bits.Len(uint(e))          // floor(log2)+1
			step := 1 << (e - s)
			padded = (padded + step - 1) / step * step
		}
		if padded != len(rest) {
			return d, errFormat
		}
		rest = trimmed[:len(trimmed)-1]
	}
	cut := func() string {
		if len(rest) < 4 || int(binary.BigEndian.Uint32(rest)) > len(rest)-4 {
			err, rest = errFormat, nil
			return ""
		}
		n := binary.BigEndian.Uint32(rest)
		s := string(rest[4 : 4+n])
		rest = rest[4+n:]
		return s
	}
	if flags&0x20 != 0 {
		key := cut()
		d.key = &key
	}
	if flags&0x40 != 0 && err == nil {
		if len(rest) < 4 || binary.BigEndian.Uint32(rest) == 0 {
			return d, errFormat
		}
		n := binary.BigEndian.Uint32(rest)
		rest = rest[4:]
		for ; n > 0 && err == nil; n-- {
			d.tags = append(d.tags, cut())
		}
	}
	if err != nil {
		return d, err
	}
	if flags&1 != 0 {
		switch {
		case len(rest) > 0 && rest[0] == 0x28:
			dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
			if err != nil {
				return d, err
			}
			defer dec.Close()
			rest, err = dec.DecodeAll(rest, nil)
			d.value = rest
			return d, err
		case len(rest) > 0 && rest[0] == 2:
			d.value, err = s2.Decode(nil, rest[1:])
			return d, err
		default:
			return d, errFormat
		}
	}
	d.value = rest
	return d, nil
}

// pseudonymByFormat is the stored name of a hidden key or tag, after the namespace.
func pseudonymByFormat(t *testing.T, set *prf.Set, namespace string, what byte, name string) string {
	t.Helper()
	in := binary.BigEndian.AppendUint32([]byte("sealcache.v1\x06"), uint32(len(namespace)))
	in = append(append(append(in, namespace...), what), name...)
	out, err := set.ComputePrimaryPRF(in, 32)
	require.NoError(t, err)
	return base64.RawURLEncoding.EncodeToString(out)
}

// options returns the writer's options of a vector.
func (v packedVector) options(set *prf.Set) []middleware.Option {
	var opts []middleware.Option
	if v.Namespace != "" {
		opts = append(opts, middleware.WithNamespace(v.Namespace))
	}
	for _, f := range v.Flags {
		switch f {
		case 'z':
			opts = append(opts, middleware.WithCompression(0))
		case 's':
			opts = append(opts, middleware.WithFastCompression(0))
		case 'e':
			opts = append(opts, middleware.WithAuthenticatedExpiry())
		case 'p':
			opts = append(opts, middleware.WithPadding())
		case 'h':
			opts = append(opts, middleware.WithHiddenKeys(set))
		case 'o':
			opts = append(opts, middleware.WithOneWayKeys(set))
		}
	}
	return opts
}

func readPackedVectors(t testing.TB) packedVectors {
	t.Helper()
	b, err := os.ReadFile(packedVectorsFile)
	require.NoError(t, err)
	var vs packedVectors
	require.NoError(t, json.Unmarshal(b, &vs))
	return vs
}

// A decoder written from FORMAT.md reads what the vectors state. A Store reads the same.
func TestPackedVectors(t *testing.T) {
	t.Parallel()
	if *writeVectors {
		generatePackedVectors(t)
	}
	vs := readPackedVectors(t)
	set := vs.prfSet(t)
	require.GreaterOrEqual(t, len(vs.Values), 15)
	require.GreaterOrEqual(t, len(vs.Refused), 8)
	for _, v := range vs.Values {
		key, stored := string(unhex(t, v.Key)), v.Stored
		d, err := decodeByFormat(v.bare(t, vs.Keysets).Decrypt, v.Namespace, stored, unhex(t, v.Sealed))
		require.NoError(t, err, v.Name)
		require.Equal(t, v.Value, hex.EncodeToString(d.value), v.Name)
		require.Equal(t, v.Plaintext, hex.EncodeToString(d.plaintext), v.Name)
		require.Equal(t, v.AssociatedData, hex.EncodeToString(d.ad), v.Name)
		require.Equal(t, v.End, d.end, v.Name)
		require.Equal(t, v.Tags, d.tags, v.Name)
		hidden := strings.ContainsAny(v.Flags, "ho")
		require.Equal(t, strings.Contains(v.Flags, "h"), d.key != nil, v.Name)
		if hidden {
			require.Equal(t, set.PrimaryID, d.prfKey, v.Name)
		}
		if d.key != nil {
			require.Equal(t, key, *d.key, v.Name)
		}
		name := key
		if hidden {
			name = pseudonymByFormat(t, set, v.Namespace, 1, key)
		}
		if v.Namespace != "" {
			name = v.Namespace + ":" + name
		}
		require.Equal(t, name, stored, v.Name)

		// A Store with the same hidden names and no other option reads it.
		backing := newPlain("vectors")
		backing.values[stored] = unhex(t, v.Sealed)
		reader := v
		reader.Flags = strings.Trim(v.Flags, "zsep")
		s := sealed(t, backing, v.aead(t, vs.Keysets), reader.options(set)...)
		got, err := s.Get(t.Context(), key)
		require.NoError(t, err, v.Name)
		switch got := got.(type) {
		case string:
			require.Equal(t, unhex(t, v.Value), []byte(got), v.Name)
		case []byte:
			require.Equal(t, unhex(t, v.Value), got, v.Name)
		case int64:
			require.Equal(t, binary.BigEndian.Uint64(unhex(t, v.Value)), uint64(got), v.Name)
		default:
			require.Fail(t, "another type", "%T", got)
		}
	}
	errs := map[string]error{"ErrUnauthentic": middleware.ErrUnauthentic, "ErrUnsupportedFormat": middleware.ErrUnsupportedFormat, "NotFound": store.NotFound{}}
	for _, v := range vs.Refused {
		backing := newPlain("vectors")
		backing.values[v.Stored] = unhex(t, v.Sealed)
		_, err := sealed(t, backing, v.aead(t, vs.Keysets), v.options(set)...).Get(t.Context(), string(unhex(t, v.Key)))
		require.NotNil(t, errs[v.Error], v.Error)
		require.ErrorIs(t, err, errs[v.Error], v.Name)
	}
}

func generatePackedVectors(t *testing.T) {
	t.Helper()
	if _, err := os.Stat(packedVectorsFile); err == nil {
		return // vectors are never edited
	}
	vs := packedVectors{Format: "sealcache, version 1, packed cache values: see FORMAT.md", Keysets: map[string]json.RawMessage{}}
	plaintextKeyset := func(h *keyset.Handle, err error) json.RawMessage {
		require.NoError(t, err)
		var b bytes.Buffer
		require.NoError(t, insecurecleartextkeyset.Write(h, keyset.NewJSONWriter(&b)))
		return b.Bytes()
	}
	vs.Keysets["aes256gcm"] = plaintextKeyset(keyset.NewHandle(tinkaead.AES256GCMKeyTemplate()))
	vs.PRF = plaintextKeyset(keyset.NewHandle(prf.HMACSHA256PRFKeyTemplate()))
	set := vs.prfSet(t)
	end := time.Date(2286, 11, 20, 17, 46, 40, 0, time.UTC)
	add := func(name, flags, namespace, key string, envelope bool, tags []string, value any) packedVector {
		v := packedVector{vector: vector{Name: name, Keyset: "aes256gcm", Envelope: envelope, Namespace: namespace, Key: hex.EncodeToString([]byte(key))}, Flags: flags, Tags: tags}
		backing := newPlain("vectors")
		s := sealed(t, backing, v.aead(t, vs.Keysets), v.options(set)...)
		options := []store.Option{store.WithTags(tags)}
		if strings.Contains(flags, "e") {
			options = append(options, store.WithExpiration(time.Until(end)))
		}
		require.NoError(t, s.Set(t.Context(), key, value, options...))
		for stored := range backing.values {
			v.Stored, v.Sealed = stored, hex.EncodeToString(backing.raw(t, stored))
		}
		d, err := decodeByFormat(v.bare(t, vs.Keysets).Decrypt, namespace, v.Stored, unhex(t, v.Sealed))
		require.NoError(t, err, name)
		v.End, v.Value, v.Plaintext, v.AssociatedData = d.end, hex.EncodeToString(d.value), hex.EncodeToString(d.plaintext), hex.EncodeToString(d.ad)
		info, err := middleware.Inspect(unhex(t, v.Sealed))
		require.NoError(t, err)
		v.Type = info.Type
		vs.Values = append(vs.Values, v)
		return v
	}
	text, tags := rows[:700], []string{"user:7", "", "tag with \x00 byte"}
	add("zstd", "z", "ns", "k", false, nil, text)
	add("s2", "s", "", "k", true, nil, []byte(text))
	add("too short to compress", "z", "", "k", false, nil, text[:511])
	expires := add("expires", "e", "ns", "k", false, nil, "v")
	add("expires, number", "e", "", "k", true, nil, int64(-2))
	padded := add("padded", "p", "ns", "k", false, nil, text)
	add("padded, empty", "p", "", "k", false, nil, "")
	add("padded, ends like padding", "p", "", "k", false, nil, []byte{1, 0x80, 0, 0})
	add("padded, number", "p", "", "k", false, nil, int64(7))
	tagged := add("tagged", "", "ns", "k", false, tags, "v")
	hidden := add("hidden", "h", "ns", "user:7", false, nil, "v")
	add("hidden, empty key, no namespace", "h", "", "", true, nil, int64(1))
	add("hidden, tagged", "h", "ns", "user:7", false, tags, text)
	oneWay := add("one way", "o", "ns", "token", false, nil, "v")
	add("one way, tagged", "o", "", "token", false, tags, "v")
	add("everything, zstd", "zeph", "ns", "user:7", true, tags, text)
	add("everything, s2, one way", "sepo", "ns", "token", true, tags, []byte(text))

	refuse := func(v packedVector, name, err string, change func(b []byte) []byte) {
		v.Name, v.Error, v.Plaintext, v.AssociatedData, v.Type, v.Value, v.Tags, v.End = name, err, "", "", "", "", nil, 0
		v.Sealed = hex.EncodeToString(change(unhex(t, v.Sealed)))
		vs.Refused = append(vs.Refused, v)
	}
	flag := func(f byte) func([]byte) []byte { return func(b []byte) []byte { b[5] ^= f; return b } }
	refuse(expires, "end altered", "ErrUnauthentic", func(b []byte) []byte { b[13]++; return b })
	refuse(expires, "end removed", "ErrUnauthentic", func(b []byte) []byte { b[5] &^= 2; return append(b[:6:6], b[14:]...) })
	refuse(expires, "end 0", "ErrUnsupportedFormat", func(b []byte) []byte { clear(b[6:14]); return b })
	refuse(padded, "padding denied", "ErrUnauthentic", flag(4))
	refuse(tagged, "tags denied", "ErrUnauthentic", flag(0x40))
	refuse(hidden, "named without hidden", "ErrUnsupportedFormat", flag(0x10))
	refuse(hidden, "name denied", "ErrUnauthentic", flag(0x20))
	refuse(hidden, "another PRF key", "ErrUnauthentic", func(b []byte) []byte { b[9] ^= 1; return b })
	refuse(hidden, "cut in the PRF key", "ErrUnsupportedFormat", func(b []byte) []byte { return b[:9] })
	refuse(oneWay, "unknown flag", "ErrUnsupportedFormat", flag(0x80))
	moved := hidden
	moved.Key = hex.EncodeToString([]byte(hidden.Stored[3:]))
	moved.Flags = ""
	refuse(moved, "read by its pseudonym", "ErrUnauthentic", func(b []byte) []byte { return b })
	plain := tagged
	plain.Flags = "h"
	plain.Stored = "ns:" + pseudonymByFormat(t, set, "ns", 1, "k")
	refuse(plain, "plain value under a pseudonym", "ErrUnauthentic", func(b []byte) []byte { return b })
	past := packedVector{vector: vector{Keyset: "aes256gcm", Namespace: "ns", Key: "6b"}, Stored: "ns:k"}
	header := append([]byte{0xC1, 0x5C, 1, 1, 2, 2}, binary.BigEndian.AppendUint64(nil, 1700000000000)...)
	ad := append([]byte("sealcache.v1\x01\x00\x00\x00\x02ns\x00\x00\x00\x01k"), header...)
	ct, err := past.bare(t, vs.Keysets).Encrypt([]byte("v"), ad)
	require.NoError(t, err)
	past.Sealed = hex.EncodeToString(append(header, ct...))
	refuse(past, "past its end", "NotFound", func(b []byte) []byte { return b })
	header = []byte{0xC1, 0x5C, 1, 1, 2, 4}
	ad = append([]byte("sealcache.v1\x01\x00\x00\x00\x02ns\x00\x00\x00\x01k"), header...)
	ct, err = past.bare(t, vs.Keysets).Encrypt([]byte("v\x80\x00\x00\x00"), ad)
	require.NoError(t, err)
	past.Sealed = hex.EncodeToString(append(header, ct...))
	refuse(past, "longer padding than Padmé's", "ErrUnsupportedFormat", func(b []byte) []byte { return b })

	b, err := json.MarshalIndent(vs, "", "\t")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(packedVectorsFile, append(b, '\n'), 0o644))
}
