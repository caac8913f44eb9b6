package aead_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/prf"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/insecurecleartextkeyset"
	"github.com/sealcache/sealcache/aead/internal/cleartext"
	"github.com/sealcache/sealcache/internal/sealtest"
)

// appendPRF is the method of the PRFs of HMAC keys that OpenPRF documents.
type appendPRF interface {
	AppendPRF(dst, input []byte, outputLength uint32) ([]byte, error)
}

// openBoth returns the PRF of a new key as Tink opens it and as OpenPRF does.
func openBoth(t *testing.T, template *tinkpb.KeyTemplate) (theirs, ours prf.PRF) {
	t.Helper()
	kek := newKeyring(t)
	handle, err := keyset.NewHandle(template)
	if err != nil {
		t.Fatal(err)
	}
	tinks, err := prf.NewPRFSet(handle)
	if err != nil {
		t.Fatal(err)
	}
	var sealed bytes.Buffer
	if err := handle.WriteWithContext(t.Context(), keyset.NewBinaryWriter(&sealed), kek, nil); err != nil {
		t.Fatal(err)
	}
	set, err := aead.OpenPRF(t.Context(), aead.BytesSource(sealed.Bytes()), kek)
	if err != nil {
		t.Fatal(err)
	}
	return tinks.PRFs[tinks.PrimaryID], set.PRFs[set.PrimaryID]
}

// The PRFs of OpenPRF return what Tink's PRFs return, for every length of input and output, also to concurrent callers.
func TestPRFEqualsTinks(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		template *tinkpb.KeyTemplate
		longest  int // output
		appends  bool
	}{
		"HMAC-SHA256": {prf.HMACSHA256PRFKeyTemplate(), 32, true},
		"HMAC-SHA512": {prf.HMACSHA512PRFKeyTemplate(), 64, true},
		"HKDF-SHA256": {prf.HKDFSHA256PRFKeyTemplate(), 100, false},
		"AES-CMAC":    {prf.AESCMACPRFKeyTemplate(), 16, false},
	} {
		theirs, ours := openBoth(t, c.template)
		appender, appends := ours.(appendPRF)
		if appends != c.appends {
			t.Errorf("%s: AppendPRF is present: %t", name, appends)
		}
		var wg sync.WaitGroup
		for worker := range 8 {
			wg.Go(func() {
				input := make([]byte, 300)
				for n := range input {
					input[n] = byte(n * (worker + 1))
					length := uint32(1 + n%c.longest)
					want, err := theirs.ComputePRF(input[:n], length)
					if err != nil {
						t.Error(err)
						return
					}
					if got, err := ours.ComputePRF(input[:n], length); err != nil || !bytes.Equal(got, want) {
						t.Errorf("%s: ComputePRF of %d bytes differs from Tink's: %v", name, n, err)
					}
					if !appends {
						continue
					}
					prefix := append(make([]byte, 0, n%90), "prefix"[:min(6, n%90)]...)
					got, err := appender.AppendPRF(prefix, input[:n], length)
					if err != nil || !bytes.Equal(got, append(bytes.Clone(prefix), want...)) {
						t.Errorf("%s: AppendPRF of %d bytes differs from Tink's: %v", name, n, err)
					}
				}
			})
		}
		wg.Wait()
		for _, p := range []prf.PRF{theirs, ours} {
			if out, err := p.ComputePRF([]byte("input"), 1<<20); err == nil || out != nil {
				t.Errorf("%s: %T returned 1 MiB", name, p)
			}
		}
	}
}

// A caller with memory for the output causes no allocation.
func TestAppendPRFAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates, and empties pools")
	}
	_, ours := openBoth(t, prf.HMACSHA256PRFKeyTemplate())
	appender, ok := ours.(appendPRF)
	if !ok {
		t.Fatalf("%T has no AppendPRF", ours)
	}
	input, output := bytes.Repeat([]byte("name"), 20), make([]byte, 0, 32)
	if n := testing.AllocsPerRun(1000, func() {
		if _, err := appender.AppendPRF(output, input, 32); err != nil {
			t.Error(err)
		}
	}); n >= 1 {
		t.Errorf("%.1f allocations", n)
	}
}

func BenchmarkPRF(b *testing.B) {
	handle, err := keyset.NewHandle(prf.HMACSHA256PRFKeyTemplate())
	if err != nil {
		b.Fatal(err)
	}
	for _, size := range []int{16, 64, 1024} {
		b.Run(fmt.Sprintf("Tink/%dB", size), func(b *testing.B) {
			set, err := prf.NewPRFSet(handle)
			if err != nil {
				b.Fatal(err)
			}
			benchmarkPRF(b, size, func(dst, input []byte) ([]byte, error) { return set.ComputePrimaryPRF(input, 32) })
		})
		b.Run(fmt.Sprintf("OpenPRF/%dB", size), func(b *testing.B) {
			kek := newKeyring(b)
			var sealed bytes.Buffer
			if err := handle.WriteWithContext(b.Context(), keyset.NewBinaryWriter(&sealed), kek, nil); err != nil {
				b.Fatal(err)
			}
			set, err := aead.OpenPRF(b.Context(), aead.BytesSource(sealed.Bytes()), kek)
			if err != nil {
				b.Fatal(err)
			}
			f, ok := set.PRFs[set.PrimaryID].(appendPRF)
			if !ok {
				b.Fatal("no AppendPRF")
			}
			benchmarkPRF(b, size, func(dst, input []byte) ([]byte, error) { return f.AppendPRF(dst, input, 32) })
		})
	}
}

func benchmarkPRF(b *testing.B, size int, compute func(dst, input []byte) ([]byte, error)) {
	b.Helper()
	input, dst := make([]byte, size), make([]byte, 0, 32)
	b.ReportAllocs()
	b.SetBytes(int64(size))
	for b.Loop() {
		if _, err := compute(dst, input); err != nil {
			b.Fatal(err)
		}
	}
}

// A file of PRF keys in plaintext is opened with the warning that a key file gets.
func TestModeOfPlaintextPRFFile(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		return
	}
	path := filepath.Join(t.TempDir(), "prf.json")
	var b bytes.Buffer
	if err := insecurecleartextkeyset.CreateKeyset(&b, prf.HMACSHA256PRFKeyTemplate()); err != nil {
		t.Fatal(err)
	}
	writeFile(t, path, b.Bytes())
	for mode, warns := range map[os.FileMode]bool{0o600: false, 0o644: true} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		var log sealtest.Logs
		if _, err := aead.OpenPRF(t.Context(), aead.FileSource(path), cleartext.KEK{}, aead.WithLogger(slog.New(slog.NewTextHandler(&log, nil)))); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(log.String(), "other users"); got != warns {
			t.Errorf("mode %o: warned %v", mode, got)
		}
	}
}
