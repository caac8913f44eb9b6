package aead_test

import (
	"bytes"
	"context"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/aeadtest"
	"github.com/sealcache/sealcache/aead/insecurecleartextkeyset"
)

type opener struct {
	schemes []string
	kek     tink.AEADWithContext
	err     error
	uri     string
}

func (o *opener) Schemes() []string { return o.schemes }

func (o *opener) OpenKEK(_ context.Context, uri string) (tink.AEADWithContext, error) {
	o.uri = uri
	return o.kek, o.err
}

func TestOpenKEKByOpener(t *testing.T) {
	t.Parallel()
	o := &opener{schemes: []string{"fake-kms", "fake2"}, kek: aeadtest.NewKeyService(t)}
	for _, uri := range []string{"fake-kms://vault/key?x=1", "FAKE2:opaque"} {
		kek, err := aead.OpenKEK(t.Context(), uri, o)
		if err != nil || kek != o.kek || o.uri != uri {
			t.Errorf("%v, opened %q", err, o.uri)
		}
	}
	o.err = aeadtest.ErrOutage
	if _, err := aead.OpenKEK(t.Context(), "fake2:", o); !errors.Is(err, aeadtest.ErrOutage) {
		t.Errorf("the opener's error: %v", err)
	}
	if _, err := aead.OpenKEK(t.Context(), "fake2:", &opener{schemes: []string{"fake2"}}); err == nil {
		t.Error("a nil KEK of an opener was passed on")
	}
}

func TestOpenKEKRefuses(t *testing.T) {
	t.Parallel()
	fake := &opener{schemes: []string{"fake"}, kek: aeadtest.NewKeyService(t)}
	const secret = "hunter2"
	for uri, c := range map[string]struct {
		openers []aead.KEKOpener
		want    string
	}{
		"":                                     {nil, "no scheme (known are file, passphrase)"},
		secret:                                 {nil, "no scheme"},
		"://" + secret:                         {nil, "no scheme"},
		"2x://" + secret:                       {nil, "no scheme"},
		"https://" + secret:                    {[]aead.KEKOpener{fake}, `unknown KEK scheme "https" (known are fake, file, passphrase)`},
		"hcvault://token:" + secret + "@host/": {nil, "github.com/sealcache/sealcache/aead/hcvault"},
		"aws-kms://" + secret:                  {nil, "github.com/sealcache/sealcache/aead/awskms"},
		"gcp-kms://" + secret:                  {nil, "github.com/sealcache/sealcache/aead/gcpkms"},
		"fake://" + secret:                     {[]aead.KEKOpener{fake, fake}, `two openers claim the KEK scheme "fake"`},
		"fake:" + secret:                       {[]aead.KEKOpener{nil}, "nil opener"},
		"x:" + secret:                          {[]aead.KEKOpener{&opener{schemes: []string{"file"}}}, `two openers claim the KEK scheme "file"`},
		"y:" + secret:                          {[]aead.KEKOpener{&opener{schemes: []string{"Upper"}}}, "not a URI scheme"},
		"file://host/" + secret:                {nil, "file:///absolute/path"},
		"file:" + secret:                       {nil, "file:///absolute/path"},
		"file://user:" + secret + "@/a":        {nil, "file:///absolute/path"},
		"file:///a%zz" + secret:                {nil, "file:///absolute/path"},
		"file:///a?relaod=" + secret:           {nil, "unknown or repeated parameter"},
		"file:///a?reload=1s&reload=" + secret: {nil, "unknown or repeated parameter"},
		"file:///a?reload=" + secret:           {nil, "reload is neither"},
		"file:///a?reload=-1s&" + secret:       {nil, "re"},
		"file:///a?%zz" + secret:               {nil, "query"},
		"passphrase:" + secret:                 {nil, "passphrase:env:NAME"},
		"passphrase://" + secret:               {nil, "passphrase:env:NAME"},
		"passphrase:env:":                      {nil, "passphrase:env:NAME"},
		"passphrase:env:NOT_SET_" + secret:     {nil, "not set"},
		"passphrase:file:relative":             {nil, "passphrase:env:NAME"},
	} {
		_, err := aead.OpenKEK(t.Context(), uri, c.openers...)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", uri, err, c.want)
		} else if strings.Contains(err.Error(), secret) {
			t.Errorf("the error quotes the URI: %v", err)
		}
	}
	if _, err := aead.OpenKEK(t.Context(), "file:///does/not/exist"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := aead.OpenKEK(ctx, "fake:", fake); !errors.Is(err, context.Canceled) {
		t.Errorf("a context that has ended: %v", err)
	}
}

func TestOpenKEKFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "key encryption key.json")
	write := func() {
		var buf bytes.Buffer
		if err := insecurecleartextkeyset.CreateKeyset(&buf, tinkaead.AES256GCMKeyTemplate()); err != nil {
			t.Fatal(err)
		}
		writeFile(t, path, buf.Bytes())
	}
	write()
	uri := (&url.URL{Scheme: "file", Path: path}).String()
	kek, err := aead.OpenKEK(t.Context(), uri)
	if err != nil {
		t.Fatal(err)
	}
	ring, ok := kek.(*aead.Keyring)
	if !ok {
		t.Fatalf("a %T, want a *aead.Keyring", kek)
	}
	defer ring.Close()
	e := newEnvelope(t, kek)
	open(t, e, seal(t, e, "message"))
	first := ring.Keys()[0].ID
	write() // the platform mounts another version
	eventually(t, "a data key under the new version of the file", func() bool {
		_, err := e.DecryptWithContext(t.Context(), seal(t, e, "message"), nil)
		return err == nil && ring.Keys()[0].ID != first
	})

	still, err := aead.OpenKEK(t.Context(), uri+"?reload=off")
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := still.EncryptWithContext(t.Context(), []byte("x"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kek.DecryptWithContext(t.Context(), sealed, nil); err != nil {
		t.Errorf("two KEKs of one file: %v", err)
	}
}

const passphrase = "correct horse battery staple"

func cheapKEK(t testing.TB) tink.AEADWithContext {
	t.Helper()
	kek, err := aead.NewCheapPassphraseKEK(t.Context(), passphrase)
	if err != nil {
		t.Fatal(err)
	}
	return kek
}

func TestPassphraseConformance(t *testing.T) {
	t.Parallel()
	if raceEnabled {
		t.Skip("argon2id is too slow under the race detector to be run a hundred times")
	}
	aeadtest.Run(t, func(t *testing.T) tink.AEADWithContext { return cheapKEK(t) })
}

func TestPassphraseAcrossProcesses(t *testing.T) {
	t.Parallel()
	one, two := cheapKEK(t), cheapKEK(t)
	a, err := one.EncryptWithContext(t.Context(), []byte("message"), []byte("ad"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := two.EncryptWithContext(t.Context(), []byte("message"), []byte("ad"))
	if err != nil {
		t.Fatal(err)
	}
	again, err := one.EncryptWithContext(t.Context(), []byte("message"), []byte("ad"))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(a[:aead.PassphraseHeader], b[:aead.PassphraseHeader]) {
		t.Error("two processes drew the same salt")
	}
	if !bytes.Equal(a[:aead.PassphraseHeader], again[:aead.PassphraseHeader]) {
		t.Error("one process seals under two salts: its readers must derive twice")
	}
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if got, err := two.DecryptWithContext(t.Context(), a, []byte("ad")); err != nil || string(got) != "message" {
				t.Errorf("another process opens: %v", err)
			}
		})
	}
	wg.Wait()
	other, err := aead.NewCheapPassphraseKEK(t.Context(), passphrase+"!")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.DecryptWithContext(t.Context(), a, []byte("ad")); !errors.Is(err, aead.ErrUnauthentic) {
		t.Errorf("another passphrase: %v", err)
	}
}

// Parameters are judged before argon2 runs: whoever writes to the store makes up headers, and must not be able to ask for
// more work than this version does, nor for a weaker key.
func TestPassphraseParametersAreThoseOfTheVersion(t *testing.T) {
	t.Setenv("SEALCACHE_TEST_PASSPHRASE", passphrase)
	kek, err := aead.OpenKEK(t.Context(), "passphrase:env:SEALCACHE_TEST_PASSPHRASE")
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := kek.EncryptWithContext(t.Context(), []byte("message"), nil)
	if err != nil {
		t.Fatal(err)
	}
	with := func(version, time, threads byte, memory uint32) []byte {
		c := bytes.Clone(sealed)
		c[0], c[1], c[2] = version, time, threads
		c[3], c[4], c[5], c[6] = byte(memory>>24), byte(memory>>16), byte(memory>>8), byte(memory)
		return c
	}
	for name, c := range map[string][]byte{
		"version 0":                 with(0, 3, 4, 64<<10),
		"version 2":                 with(2, 3, 4, 64<<10),
		"no pass":                   with(1, 0, 4, 64<<10),
		"one pass less":             with(1, 2, 4, 64<<10),
		"one pass more":             with(1, 4, 4, 64<<10),
		"many passes, one lane":     with(1, 12, 1, 64<<10),
		"no lane":                   with(1, 3, 0, 64<<10),
		"one lane":                  with(1, 3, 1, 64<<10),
		"little memory":             with(1, 3, 4, 19<<10),
		"no memory":                 with(1, 3, 4, 0),
		"much memory":               with(1, 3, 4, 256<<10),
		"all memory":                with(1, 255, 255, 1<<32-1),
		"RFC 9106 with more memory": with(1, 3, 4, 128<<10),
		"cut":                       sealed[:aead.PassphraseHeader+27],
	} {
		if aead.PassphraseHeaderAccepted(kek, c) {
			t.Errorf("%s: argon2 would be run", name)
		}
		if _, err := kek.DecryptWithContext(t.Context(), c, nil); !errors.Is(err, aead.ErrUnauthentic) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if !aead.PassphraseHeaderAccepted(kek, with(1, 3, 4, 64<<10)) {
		t.Error("what this version writes is refused")
	}
}

// otherSalt is a ciphertext whose salt nobody drew.
func otherSalt(sealed []byte, i int) []byte {
	c := bytes.Clone(sealed)
	c[7], c[8], c[9] = ^c[7], byte(i), byte(i>>8)
	return c
}

// Made-up salts cost a derivation each. What needs none must not wait behind them.
func TestKnownSaltsDoNotWaitBehindGarbage(t *testing.T) {
	t.Parallel()
	kek, other := cheapKEK(t), cheapKEK(t)
	e, first, second := newEnvelope(t, kek), newEnvelope(t, other), newEnvelope(t, other)
	own, known, sameSalt := seal(t, newEnvelope(t, kek), "own salt"), seal(t, first, "known"), seal(t, second, "of a known salt")
	open(t, e, known)

	release := aead.HoldDerivations(kek)
	defer release()
	ctx, cancel := context.WithCancel(t.Context())
	var garbage sync.WaitGroup
	for i := range 4 * aead.UnwrapParallel {
		garbage.Go(func() {
			forged := append(known[:4:4], otherSalt(known[4:], i)...)
			if _, err := e.DecryptWithContext(ctx, forged, nil); !errors.Is(err, aead.ErrKeyServiceUnavailable) {
				t.Errorf("garbage that waits: %v", err)
			}
		})
	}
	eventually(t, "garbage in all slots", func() bool { return e.Stats().CacheMisses >= 4*aead.UnwrapParallel })
	patience, stop := context.WithTimeout(t.Context(), 5*time.Second)
	defer stop()
	for name, sealed := range map[string][]byte{"own salt": own, "known data key": known, "unknown data key of a known salt": sameSalt} {
		if _, err := e.DecryptWithContext(patience, sealed, nil); err != nil {
			t.Errorf("%s, behind garbage: %v", name, err)
		}
	}
	cancel()
	garbage.Wait()
}

func TestSaltIsDerivedOnce(t *testing.T) {
	t.Parallel()
	kek, other := cheapKEK(t), cheapKEK(t)
	sealed, err := other.EncryptWithContext(t.Context(), []byte("message"), nil)
	if err != nil {
		t.Fatal(err)
	}
	altered := bytes.Clone(sealed)
	altered[len(altered)-1] ^= 1
	for name, c := range map[string][]byte{"made-up salt": otherSalt(sealed, 1), "good salt": altered} {
		if _, err := kek.DecryptWithContext(t.Context(), c, nil); !errors.Is(err, aead.ErrUnauthentic) {
			t.Errorf("%s before a forged ciphertext: %v", name, err)
		}
	}
	release := aead.HoldDerivations(kek)
	defer release()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if _, err := kek.DecryptWithContext(ctx, otherSalt(sealed, 1), nil); !errors.Is(err, aead.ErrUnauthentic) {
		t.Errorf("a made-up salt is derived again: %v", err)
	}
	if _, err := kek.DecryptWithContext(ctx, sealed, nil); err != nil {
		t.Errorf("a good salt was held for a made-up one: %v", err)
	}
}

func TestDerivationsThatWaitAreBounded(t *testing.T) {
	t.Parallel()
	kek := cheapKEK(t)
	sealed, err := kek.EncryptWithContext(t.Context(), []byte("message"), nil)
	if err != nil {
		t.Fatal(err)
	}
	release := aead.HoldDerivations(kek)
	ctx, cancel := context.WithCancel(t.Context())
	var waiting, turnedAway atomic.Int64
	var wg sync.WaitGroup
	const all = 3 * aead.MaxDerivations
	for i := range all {
		wg.Go(func() {
			_, err := kek.DecryptWithContext(ctx, otherSalt(sealed, i), nil)
			switch {
			case errors.Is(err, aead.ErrUnauthentic) || err == nil:
				t.Errorf("without a derivation: %v", err)
			case errors.Is(err, context.Canceled):
				waiting.Add(1)
			default:
				turnedAway.Add(1)
			}
		})
	}
	eventually(t, "a full queue", func() bool { return turnedAway.Load() == all-aead.MaxDerivations-1 })
	cancel()
	wg.Wait()
	release()
	if n := waiting.Load(); n != aead.MaxDerivations+1 {
		t.Errorf("%d waited, want %d", n, aead.MaxDerivations+1)
	}
}

func TestPassphraseSources(t *testing.T) {
	path := filepath.Join(t.TempDir(), "passphrase")
	if err := os.WriteFile(path, []byte(passphrase+"\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SEALCACHE_TEST_PASSPHRASE", passphrase)
	fromFile, err := aead.OpenKEK(t.Context(), "passphrase:file:"+path)
	if err != nil {
		t.Fatal(err)
	}
	fromEnv, err := aead.OpenKEK(t.Context(), "passphrase:env:SEALCACHE_TEST_PASSPHRASE")
	if err != nil {
		t.Fatal(err)
	}
	e, reader := newEnvelope(t, fromFile), newEnvelope(t, fromEnv)
	sealed := seal(t, e, "message")
	if len(sealed)-len("message") != 4+34+51+28 {
		t.Errorf("an envelope under a passphrase adds %d bytes", len(sealed)-len("message"))
	}
	open(t, reader, sealed)

	for name, content := range map[string]string{"empty": "", "short": "eleven byte", "long": strings.Repeat("x", 4097)} {
		t.Setenv("SEALCACHE_TEST_PASSPHRASE", content)
		if _, err := aead.OpenKEK(t.Context(), "passphrase:env:SEALCACHE_TEST_PASSPHRASE"); err == nil || content != "" && strings.Contains(err.Error(), content) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := aead.OpenKEK(t.Context(), "passphrase:file:"+path+".missing"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}
