package aead_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/prf"
	"github.com/tink-crypto/tink-go/v2/signature"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/aeadtest"
	"github.com/sealcache/sealcache/aead/insecurecleartextkeyset"
)

func TestCreateKeysetSealsTheKey(t *testing.T) {
	t.Parallel()
	kek := newKeyring(t)
	var buf bytes.Buffer
	if err := aead.CreateKeyset(t.Context(), &buf, kek, tinkaead.AES256GCMKeyTemplate()); err != nil {
		t.Fatal(err)
	}
	if _, err := insecurecleartextkeyset.Handle(t.Context(), aead.BytesSource(buf.Bytes())); err == nil {
		t.Error("the keyset is in plaintext")
	}
	if !strings.HasPrefix(buf.String(), "{") || strings.Contains(buf.String(), `"keyData"`) {
		t.Errorf("not Tink's JSON of an encrypted keyset: %s", buf.String())
	}
}

type failingWriter struct{ n int }

func (w failingWriter) Write(p []byte) (int, error) {
	if w.n < 0 {
		return 0, os.ErrClosed
	}
	return w.n, nil
}

func TestCreateKeysetFails(t *testing.T) {
	t.Parallel()
	ctx, kek := t.Context(), newKeyring(t)
	service := aeadtest.NewKeyService(t)
	service.Fail(aeadtest.ErrOutage)
	template := tinkaead.AES256GCMKeyTemplate()
	var buf bytes.Buffer
	if err := aead.CreateKeyset(ctx, &buf, service, template); !errors.Is(err, aeadtest.ErrOutage) || !errors.Is(err, aead.ErrKeyServiceUnavailable) {
		t.Errorf("KEK down: %v", err)
	}
	for name, err := range map[string]error{
		"nil KEK":                aead.CreateKeyset(ctx, &buf, nil, template),
		"nil template":           aead.CreateKeyset(ctx, &buf, kek, nil),
		"template of signatures": aead.CreateKeyset(ctx, &buf, kek, signature.ED25519KeyTemplate()),
		"WithReload":             aead.CreateKeyset(ctx, &buf, kek, template, aead.WithReload(1)),
		"nil option":             aead.CreateKeyset(ctx, &buf, kek, template, nil),
	} {
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if buf.Len() != 0 {
		t.Error("a failure wrote something")
	}
	if err := aead.CreateKeyset(ctx, failingWriter{-1}, kek, template); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a writer that fails: %v", err)
	}
	if err := aead.CreateKeyset(ctx, failingWriter{1}, kek, template); !errors.Is(err, io.ErrShortWrite) {
		t.Errorf("a writer that stops short: %v", err)
	}
}

func TestOpenPRF(t *testing.T) {
	t.Parallel()
	ctx, kek := t.Context(), newKeyring(t)
	for name, template := range map[string]func() (*bytes.Buffer, error){
		"HMAC": func() (*bytes.Buffer, error) {
			var buf bytes.Buffer
			return &buf, aead.CreateKeyset(ctx, &buf, kek, prf.HMACSHA256PRFKeyTemplate())
		},
		"HKDF": func() (*bytes.Buffer, error) {
			var buf bytes.Buffer
			return &buf, aead.CreateKeyset(ctx, &buf, kek, prf.HKDFSHA256PRFKeyTemplate())
		},
	} {
		buf, err := template()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var names [][]byte
		for range 2 {
			set, err := aead.OpenPRF(ctx, aead.BytesSource(buf.Bytes()), kek)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			out, err := set.ComputePrimaryPRF([]byte("key"), 32)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			names = append(names, out)
		}
		if !bytes.Equal(names[0], names[1]) {
			t.Errorf("%s: two openings of one keyset differ", name)
		}
		if _, err := aead.OpenPRF(ctx, aead.BytesSource(buf.Bytes()), newKeyring(t)); !errors.Is(err, aead.ErrUnknownKey) {
			t.Errorf("%s under another KEK: %v", name, err)
		}
		if _, err := aead.OpenKeyring(ctx, aead.BytesSource(buf.Bytes()), kek); err == nil {
			t.Errorf("%s: a Keyring of PRF keys", name)
		}
	}
	var sealing bytes.Buffer
	if err := aead.CreateKeyset(ctx, &sealing, kek, tinkaead.AES256GCMKeyTemplate()); err != nil {
		t.Fatal(err)
	}
	if _, err := aead.OpenPRF(ctx, aead.BytesSource(sealing.Bytes()), kek); err == nil {
		t.Error("an AEAD keyset was opened as a PRF")
	}
	if _, err := aead.OpenPRF(ctx, aead.BytesSource(sealing.Bytes()), nil); err == nil {
		t.Error("a nil KEK was accepted")
	}
	if _, err := aead.OpenPRF(ctx, aead.BytesSource(sealing.Bytes()), kek, aead.WithReload(1)); err == nil {
		t.Error("WithReload was accepted")
	}
}

func TestSources(t *testing.T) {
	ctx, kek := t.Context(), newKeyring(t)
	var buf, binary bytes.Buffer
	if err := aead.CreateKeyset(ctx, &buf, kek, tinkaead.AES256GCMKeyTemplate()); err != nil {
		t.Fatal(err)
	}
	h, err := keyset.ReadWithContext(ctx, keyset.NewJSONReader(bytes.NewReader(buf.Bytes())), kek, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.WriteWithContext(ctx, keyset.NewBinaryWriter(&binary), kek, nil); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "keyset")
	if err := os.WriteFile(path, binary.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SEALCACHE_JSON", " "+buf.String()+"\n")
	t.Setenv("SEALCACHE_BASE64", base64.StdEncoding.EncodeToString(binary.Bytes())+"\n")
	for name, src := range map[string]aead.Source{
		"file": aead.FileSource(path), "JSON in the environment": aead.EnvSource("SEALCACHE_JSON"),
		"base64 in the environment": aead.EnvSource("SEALCACHE_BASE64"),
	} {
		k, err := aead.OpenKeyring(ctx, src, kek)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	}

	large := filepath.Join(t.TempDir(), "large")
	if err := os.WriteFile(large, make([]byte, aead.MaxKeysetBytes+2), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SEALCACHE_NEITHER", "hunter2 hunter2")
	t.Setenv("SEALCACHE_EMPTY", "")
	for name, src := range map[string]aead.Source{
		"missing file": aead.FileSource(path + ".missing"), "no path": aead.FileSource(""), "directory": aead.FileSource(t.TempDir()),
		"large file": aead.FileSource(large), "missing variable": aead.EnvSource("SEALCACHE_MISSING"),
		"empty variable": aead.EnvSource("SEALCACHE_EMPTY"), "neither form": aead.EnvSource("SEALCACHE_NEITHER"),
	} {
		k, err := aead.OpenKeyring(ctx, src, kek)
		if err == nil {
			if err := k.Close(); err != nil {
				t.Error(err)
			}
			t.Errorf("%s: accepted", name)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the error quotes its input: %v", name, err)
		}
	}
	data := []byte("mine")
	src := aead.BytesSource(data)
	copy(data, "your")
	if got, err := src.Load(ctx); err != nil || string(got) != "mine" {
		t.Errorf("BytesSource keeps the caller's slice: %q %v", got, err)
	}
}

// A plaintext keyset that is given instead of its path or variable name does not appear in an error.
func TestMisusedSourcesDoNotQuoteTheKeyset(t *testing.T) {
	t.Parallel()
	var plaintext bytes.Buffer
	h, err := keyset.NewHandle(tinkaead.AES256GCMKeyTemplate())
	if err != nil {
		t.Fatal(err)
	}
	if err := insecurecleartextkeyset.Write(&plaintext, h); err != nil {
		t.Fatal(err)
	}
	encoded := base64.StdEncoding.EncodeToString(cleartextBinary(t, h))
	for name, content := range map[string]string{
		"JSON": plaintext.String(), "base64": encoded, "URL-safe base64": base64.URLEncoding.EncodeToString(plaintext.Bytes()),
		"letters": strings.Repeat("k", 65), "long": strings.Repeat("long/name/", 500), "lines": "-----\nBEGIN", "blank": "a b",
	} {
		for _, src := range []aead.Source{aead.EnvSource(content), aead.FileSource(content)} {
			_, err := aead.OpenKeyring(t.Context(), src, newKeyring(t))
			if err == nil {
				t.Fatalf("%s: accepted", name)
			}
			if src == aead.FileSource(content) && name == "blank" {
				continue // may be a path
			}
			for _, text := range []string{err.Error(), fmt.Sprint(src), fmt.Sprintf("%q", src)} {
				if strings.Contains(text, content[:min(len(content), 5)]) {
					t.Errorf("%s: %.100s", name, text)
				}
			}
		}
	}
	// A name appears in the error.
	for want, src := range map[string]aead.Source{"MY_KEYSET_2": aead.EnvSource("MY_KEYSET_2"), "/does/not/exist": aead.FileSource("/does/not/exist")} {
		if _, err := src.Load(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
