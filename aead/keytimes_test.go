package aead_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/prf"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"

	"github.com/sealcache/sealcache/aead"
)

// The times of keys authenticate under their keyset: no byte can be altered, and another keyset does not take them.
func TestKeyTimes(t *testing.T) {
	t.Parallel()
	for name, template := range map[string]*tinkpb.KeyTemplate{
		"AES-GCM": tinkaead.AES256GCMKeyTemplate(), "raw": tinkaead.AES256GCMNoPrefixKeyTemplate(),
		"XAES": tinkaead.XAES256GCM192BitNonceKeyTemplate(), "PRF": prf.HMACSHA256PRFKeyTemplate(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, err := keyset.NewHandle(template)
			if err != nil {
				t.Fatal(err)
			}
			made := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
			want := []aead.KeyTimes{{ID: 7, Created: made, Promoted: made.Add(time.Hour)}}
			data, err := aead.SealKeyTimes(h, want)
			if err != nil {
				t.Fatal(err)
			}
			got, err := aead.OpenKeyTimes(h, data)
			if err != nil || len(got) != 1 || got[0] != want[0] {
				t.Fatalf("%+v, %v", got, err)
			}
			if spaced, err := aead.OpenKeyTimes(h, bytes.ReplaceAll(data, []byte("\n"), []byte("\n  "))); err != nil || spaced[0] != want[0] {
				t.Errorf("with other white space: %v", err)
			}
			for i := range data {
				altered := bytes.Clone(data)
				altered[i] ^= 4
				if got, err := aead.OpenKeyTimes(h, altered); err == nil && got[0] != want[0] {
					t.Errorf("byte %d altered: %+v", i, got)
				}
			}
			other, err := keyset.NewHandle(template)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := aead.OpenKeyTimes(other, data); !errors.Is(err, aead.ErrUnauthentic) && !errors.Is(err, aead.ErrUnknownKey) {
				t.Errorf("another keyset: %v", err)
			}
		})
	}
}

// To read a file of a newer release as one of this release would lose its other content at the next change.
func TestNewerKeyTimes(t *testing.T) {
	t.Parallel()
	h, err := keyset.NewHandle(tinkaead.AES256GCMKeyTemplate())
	if err != nil {
		t.Fatal(err)
	}
	a, err := tinkaead.New(h)
	if err != nil {
		t.Fatal(err)
	}
	file := func(schema int, keys, more string) []byte {
		t.Helper()
		tag, err := a.Encrypt(nil, []byte("sealcache key times 1\x00"+keys))
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Appendf(nil, `{"schema": %d, "keys": %s, "tag": "%s"%s}`, schema, keys, base64.StdEncoding.EncodeToString(tag), more)
	}
	if times, err := aead.OpenKeyTimes(h, file(1, `[{"id":7}]`, "")); err != nil || times[0].ID != 7 {
		t.Fatalf("%+v, %v", times, err)
	}
	for name, data := range map[string][]byte{
		"schema":          file(2, `[{"id":7}]`, ""),
		"schema alone":    []byte(`{"schema": 2}`),
		"other forms":     []byte(`{"schema": 2, "keys": [1], "tag": {}}`),
		"member":          file(1, `[{"id":7}]`, `, "hold": true`),
		"member of a key": file(1, `[{"id":7,"hold":true}]`, ""),
	} {
		if times, err := aead.OpenKeyTimes(h, data); !errors.Is(err, aead.ErrNewerKeyTimes) || times != nil {
			t.Errorf("%s: %+v, %v", name, times, err)
		}
	}
	if _, err := aead.OpenKeyTimes(h, bytes.Replace(file(1, `[{"id":7}]`, ""), []byte("7"), []byte(`7,"hold":true`), 1)); !errors.Is(err, aead.ErrUnauthentic) {
		t.Errorf("altered: %v", err)
	}
}

// A Keyring reads the times next to its file, warns of a key that outlived its cryptoperiod, and works without them.
func TestKeyringTimes(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keyset.json")
	kek := newKeyring(t)
	var sealed bytes.Buffer
	if err := aead.CreateKeyset(t.Context(), &sealed, kek, tinkaead.AES256GCMKeyTemplate()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, sealed.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	open := func() *aead.Keyring {
		t.Helper()
		log.Reset()
		k, err := aead.OpenKeyring(t.Context(), aead.FileSource(path), kek, aead.WithoutReload(),
			aead.WithCryptoperiod(90*24*time.Hour), aead.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { k.Close() })
		return k
	}
	k := open()
	if _, known := k.Keys()[0].Age(time.Now()); known || log.Len() > 0 {
		t.Errorf("without times the age is known, or warned of: %s", log.String())
	}
	h, err := keyset.ReadWithContext(t.Context(), keyset.NewJSONReader(&sealed), kek, nil)
	if err != nil {
		t.Fatal(err)
	}
	write := func(promoted time.Time) {
		t.Helper()
		data, err := aead.SealKeyTimes(h, []aead.KeyTimes{{ID: k.Keys()[0].ID, Created: promoted, Promoted: promoted}})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path+aead.KeyTimesSuffix, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(time.Now().Add(-10 * 24 * time.Hour))
	if err := k.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if age, known := k.Keys()[0].Age(time.Now()); !known || age < 9*24*time.Hour || strings.Contains(log.String(), "cryptoperiod") {
		t.Errorf("age %v, %v; %s", age, known, log.String())
	}
	write(time.Now().Add(-91 * 24 * time.Hour))
	for range 2 {
		if err := k.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(log.String(), "older than WithCryptoperiod allows"); n != 1 {
		t.Errorf("warned %d times of an old key: %s", n, log.String())
	}
	if err := os.WriteFile(path+aead.KeyTimesSuffix, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	k = open()
	if _, known := k.Keys()[0].Age(time.Now()); known || !strings.Contains(log.String(), "ages of the keys are unknown") ||
		!strings.Contains(log.String(), path+aead.KeyTimesSuffix) {
		t.Errorf("times that do not authenticate: %s", log.String())
	}
}
