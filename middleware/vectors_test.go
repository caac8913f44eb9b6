package middleware_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/middleware/internal/keycheck"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// vectors are described in FORMAT.md.
type vectors struct {
	Format  string                     `json:"format"`
	Keysets map[string]json.RawMessage `json:"keysets"`
	Values  []vector                   `json:"values"`
	Refused []vector                   `json:"refused"`
	// KeyChecks are the entries of package keycheck.
	KeyChecks []vector `json:"key_checks"`
}

type vector struct {
	Name           string `json:"name"`
	Keyset         string `json:"keyset"`
	Envelope       bool   `json:"envelope"`
	Namespace      string `json:"namespace"`
	Key            string `json:"key_hex"`
	Type           string `json:"type,omitempty"`
	Plaintext      string `json:"plaintext_hex,omitempty"`
	AssociatedData string `json:"associated_data_hex,omitempty"`
	Sealed         string `json:"sealed_hex"`
	Error          string `json:"error,omitempty"`
}

const vectorsFile = "testdata/vectors.json"

var writeVectors = flag.Bool("write-vectors", false, "write "+vectorsFile+" again: only ever to add a file for a new version of the format")

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	require.NoError(t, err)
	return b
}

func (v vector) handle(t *testing.T, keysets map[string]json.RawMessage) *keyset.Handle {
	t.Helper()
	h, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(bytes.NewReader(keysets[v.Keyset])))
	require.NoError(t, err)
	return h
}

func (v vector) aead(t *testing.T, keysets map[string]json.RawMessage) tink.AEADWithContext {
	t.Helper()
	k := sealtest.KeyringOf(t, v.handle(t, keysets))
	if v.Envelope {
		return sealtest.EnvelopeOf(t, k)
	}
	return k
}

// bare returns Tink's own AEAD.
func (v vector) bare(t *testing.T, keysets map[string]json.RawMessage) tink.AEAD {
	t.Helper()
	a, err := tinkaead.New(v.handle(t, keysets))
	require.NoError(t, err)
	if v.Envelope {
		return tinkaead.NewKMSEnvelopeAEAD2(tinkaead.AES256GCMKeyTemplate(), a)
	}
	return a
}

func (v vector) store(t *testing.T, keysets map[string]json.RawMessage) (*middleware.Store, *plain) {
	t.Helper()
	a := v.aead(t, keysets)
	var opts []middleware.Option
	if v.Namespace != "" {
		opts = append(opts, middleware.WithNamespace(v.Namespace))
	}
	backing := newPlain("vectors")
	return sealed(t, backing, a, append(opts, middleware.WithCodec(middleware.JSON[user]()), middleware.WithCodec(middleware.MsgPack[user]()))...), backing
}

func (v vector) name(t *testing.T) (stored, key string) {
	t.Helper()
	key = string(unhex(t, v.Key))
	if v.Namespace != "" {
		return v.Namespace + ":" + key, key
	}
	return key, key
}

func TestVectors(t *testing.T) {
	t.Parallel()
	if *writeVectors {
		generateVectors(t)
	}
	b, err := os.ReadFile(vectorsFile)
	require.NoError(t, err)
	var vs vectors
	require.NoError(t, json.Unmarshal(b, &vs))
	require.GreaterOrEqual(t, len(vs.Values), 20)
	require.GreaterOrEqual(t, len(vs.Refused), 10)

	for _, v := range vs.Values {
		s, backing := v.store(t, vs.Keysets)
		name, key := v.name(t)
		sealedValue := unhex(t, v.Sealed)
		backing.values[name] = sealedValue
		got, err := s.Get(t.Context(), key)
		require.NoError(t, err, v.Name)

		// A value is written as it was read, except for the nonce.
		require.NoError(t, s.Set(t.Context(), key, got))
		again := backing.raw(t, name)
		require.Len(t, again, len(sealedValue), v.Name)
		require.Equal(t, sealedValue[:wire.HeaderSize], again[:wire.HeaderSize], v.Name)
		info, err := middleware.Inspect(sealedValue)
		require.NoError(t, err)
		require.Equal(t, v.Type, info.Type)
		require.Equal(t, v.Envelope, info.Key.Envelope)

		// Tink alone opens it with this associated data.
		plaintext, err := v.bare(t, vs.Keysets).Decrypt(sealedValue[wire.HeaderSize:], unhex(t, v.AssociatedData))
		require.NoError(t, err, v.Name)
		require.Equal(t, unhex(t, v.Plaintext), append([]byte{}, plaintext...), v.Name)
	}
	require.Len(t, vs.KeyChecks, 2)
	for _, v := range vs.KeyChecks {
		a := v.aead(t, vs.Keysets)
		entry := unhex(t, v.Sealed)
		c, err := keycheck.New(a, v.Namespace)
		require.NoError(t, err)
		require.NoError(t, c.Open(t.Context(), entry), v.Name)
		require.Equal(t, keycheck.Name, string(unhex(t, v.Key)))
		plaintext, err := v.bare(t, vs.Keysets).Decrypt(entry[wire.HeaderSize:], unhex(t, v.AssociatedData))
		require.NoError(t, err, v.Name)
		require.Equal(t, unhex(t, v.Plaintext), plaintext, v.Name)
	}
	errs := map[string]error{
		"ErrNotSealed": middleware.ErrNotSealed, "ErrUnauthentic": middleware.ErrUnauthentic,
		"ErrUnknownKey": middleware.ErrUnknownKey, "ErrUnsupportedFormat": middleware.ErrUnsupportedFormat,
	}
	for _, v := range vs.Refused {
		s, backing := v.store(t, vs.Keysets)
		name, key := v.name(t)
		backing.values[name] = unhex(t, v.Sealed)
		_, err := s.Get(t.Context(), key)
		require.NotNil(t, errs[v.Error], v.Error)
		require.ErrorIs(t, err, errs[v.Error], v.Name)
	}
}

func generateVectors(t *testing.T) {
	t.Helper()
	if _, err := os.Stat(vectorsFile); err == nil {
		t.Fatalf("%s exists: vectors are never edited", vectorsFile)
	}
	vs := vectors{Format: "sealcache, version 1: see FORMAT.md", Keysets: map[string]json.RawMessage{}}
	for name, template := range map[string]func() (*keyset.Handle, error){
		"aes256gcm":     func() (*keyset.Handle, error) { return keyset.NewHandle(tinkaead.AES256GCMKeyTemplate()) },
		"aes128gcm":     func() (*keyset.Handle, error) { return keyset.NewHandle(tinkaead.AES128GCMKeyTemplate()) },
		"xchacha20":     func() (*keyset.Handle, error) { return keyset.NewHandle(tinkaead.XChaCha20Poly1305KeyTemplate()) },
		"aes256gcm-raw": func() (*keyset.Handle, error) { return keyset.NewHandle(tinkaead.AES256GCMNoPrefixKeyTemplate()) },
	} {
		h, err := template()
		require.NoError(t, err)
		var b bytes.Buffer
		require.NoError(t, insecurecleartextkeyset.Write(h, keyset.NewJSONWriter(&b)))
		vs.Keysets[name] = b.Bytes()
	}
	add := func(v vector, value any) vector {
		s, backing := v.store(t, vs.Keysets)
		name, key := v.name(t)
		require.NoError(t, s.Set(t.Context(), key, value))
		stored := backing.raw(t, name)
		header := stored[:wire.HeaderSize]
		ad := append(wire.AppendName(wire.AppendContext(nil, wire.CacheValue, v.Namespace), key), header...)
		v.AssociatedData, v.Sealed = hex.EncodeToString(ad), hex.EncodeToString(stored)
		info, err := middleware.Inspect(stored)
		require.NoError(t, err)
		v.Type = info.Type
		plaintext, err := v.bare(t, vs.Keysets).Decrypt(stored[wire.HeaderSize:], ad)
		require.NoError(t, err)
		v.Plaintext = hex.EncodeToString(plaintext)
		vs.Values = append(vs.Values, v)
		return v
	}
	for name, value := range predeclared {
		add(vector{Name: name, Keyset: "aes256gcm", Envelope: true, Namespace: "ns", Key: hex.EncodeToString([]byte("key"))}, value)
	}
	add(vector{Name: "json", Keyset: "aes256gcm", Key: hex.EncodeToString([]byte("user:1"))}, user{Name: "Ada"})
	add(vector{Name: "empty key, no namespace", Keyset: "aes128gcm"}, "v")
	add(vector{Name: "binary key", Keyset: "xchacha20", Namespace: "a.b-C_9", Key: "00ff0a"}, []byte{0, 1, 2})
	add(vector{Name: "raw keyset", Keyset: "aes256gcm-raw", Key: "6b"}, int64(-1))
	good := add(vector{Name: "envelope under xchacha20", Keyset: "xchacha20", Envelope: true, Key: "6b"}, "swap me")
	keyed := add(vector{Name: "keyring", Keyset: "aes256gcm", Namespace: "ns", Key: "6b"}, "swap me too")

	refuse := func(v vector, name, err string, change func(b []byte) []byte) {
		v.Name, v.Error, v.Plaintext, v.AssociatedData, v.Type = name, err, "", "", ""
		v.Sealed = hex.EncodeToString(change(unhex(t, v.Sealed)))
		vs.Refused = append(vs.Refused, v)
	}
	same := func(b []byte) []byte { return b }
	set := func(i int, c byte) func([]byte) []byte {
		return func(b []byte) []byte { b[(i+len(b))%len(b)] = c; return b }
	}
	elsewhere := keyed
	elsewhere.Key = "6c"
	refuse(elsewhere, "another key", "ErrUnauthentic", same)
	elsewhere = keyed
	elsewhere.Namespace = "ns2"
	refuse(elsewhere, "another namespace", "ErrUnauthentic", same)
	elsewhere = keyed
	elsewhere.Keyset = "aes128gcm"
	refuse(elsewhere, "another keyset", "ErrUnknownKey", same)
	refuse(keyed, "last byte altered", "ErrUnauthentic", func(b []byte) []byte { b[len(b)-1] ^= 1; return b })
	refuse(good, "payload of an envelope altered", "ErrUnauthentic", func(b []byte) []byte { b[len(b)-1] ^= 1; return b })
	refuse(good, "envelope longer than the value", "ErrUnknownKey", set(8, 0x0f))
	refuse(keyed, "type altered", "ErrUnauthentic", set(4, 1))
	refuse(keyed, "kind altered", "ErrUnauthentic", set(3, 2))
	refuse(keyed, "version 2", "ErrUnsupportedFormat", set(2, 2))
	refuse(keyed, "flag altered", "ErrUnauthentic", set(5, 1))
	refuse(keyed, "unknown type", "ErrUnsupportedFormat", set(4, 0x30))
	refuse(keyed, "cut in the header", "ErrUnsupportedFormat", func(b []byte) []byte { return b[:5] })
	refuse(keyed, "header alone", "ErrUnsupportedFormat", func(b []byte) []byte { return b[:6] })
	refuse(keyed, "cut in the ciphertext", "ErrUnauthentic", func(b []byte) []byte { return b[:len(b)-1] })
	refuse(keyed, "first byte altered", "ErrNotSealed", set(0, 0xc0))
	refuse(keyed, "clear text", "ErrNotSealed", func([]byte) []byte { return []byte("42") })

	for _, v := range []vector{
		{Name: "keyring", Keyset: "aes256gcm", Namespace: "ns"},
		{Name: "envelope, no namespace", Keyset: "aes128gcm", Envelope: true},
	} {
		c, err := keycheck.New(v.aead(t, vs.Keysets), v.Namespace)
		require.NoError(t, err)
		entry, err := c.Seal(t.Context())
		require.NoError(t, err)
		ad := append(wire.AppendName(wire.AppendContext(nil, wire.KeyCheck, v.Namespace), keycheck.Name), entry[:wire.HeaderSize]...)
		v.Key, v.Plaintext, v.Type = hex.EncodeToString([]byte(keycheck.Name)), "01", "[]byte"
		v.AssociatedData, v.Sealed = hex.EncodeToString(ad), hex.EncodeToString(entry)
		vs.KeyChecks = append(vs.KeyChecks, v)
	}

	b, err := json.MarshalIndent(vs, "", "\t")
	require.NoError(t, err)
	require.NoError(t, os.MkdirAll("testdata", 0o755))
	require.NoError(t, os.WriteFile(vectorsFile, append(b, '\n'), 0o644))
}
