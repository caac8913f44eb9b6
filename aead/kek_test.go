package aead_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
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

// closableKEK is a KEK with a connection.
type closableKEK struct {
	tink.AEADWithContext
	closed int
}

func (k *closableKEK) Close() error {
	k.closed++
	return aeadtest.ErrOutage
}

func TestOpenKEKByOpener(t *testing.T) {
	t.Parallel()
	o := &opener{schemes: []string{"fake-kms", "fake2"}, kek: aeadtest.NewKeyService(t)}
	for _, uri := range []string{"fake-kms://vault/key?x=1", "FAKE2:opaque"} {
		kek, err := aead.OpenKEK(t.Context(), uri, o)
		if err != nil || o.uri != uri {
			t.Fatalf("%v, opened %q", err, o.uri)
		}
		newEnvelope(t, kek)
		if err := kek.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	closable := &closableKEK{AEADWithContext: o.kek}
	o.kek = closable
	kek, err := aead.OpenKEK(t.Context(), "fake2:", o)
	if err != nil {
		t.Fatal(err)
	}
	if err := kek.Close(); !errors.Is(err, aeadtest.ErrOutage) || closable.closed != 1 {
		t.Errorf("close: %v, %d times", err, closable.closed)
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
		"":                                     {nil, "the URI of the KEK is empty (if an environment variable holds it, set that variable)"},
		secret:                                 {nil, "must begin with a scheme, for example file:///path (allowed schemes: file, passphrase)"},
		"://" + secret:                         {nil, "must begin with a scheme"},
		"2x://" + secret:                       {nil, "must begin with a scheme"},
		"https://" + secret:                    {[]aead.KEKOpener{fake}, `unknown URI scheme "https" (allowed schemes: fake, file, passphrase)`},
		"hcvault://token:" + secret + "@host/": {nil, "unknown URI scheme"},
		"aws-kms://" + secret:                  {nil, "unknown URI scheme"},
		"gcp-kms://" + secret:                  {nil, "unknown URI scheme"},
		"fake://" + secret:                     {[]aead.KEKOpener{fake, fake}, `two openers have the URI scheme "fake"`},
		"fake:" + secret:                       {[]aead.KEKOpener{nil}, "an opener that the caller gave is nil"},
		"x:" + secret:                          {[]aead.KEKOpener{&opener{schemes: []string{"file"}}}, `two openers have the URI scheme "file"`},
		"y:" + secret:                          {[]aead.KEKOpener{&opener{schemes: []string{"Upper"}}}, "want URI schemes such as gcp-kms"},
		"file://host/" + secret:                {nil, "file:///absolute/path"},
		"file:" + secret:                       {nil, "file:///absolute/path"},
		"file://user:" + secret + "@/a":        {nil, "file:///absolute/path"},
		"file:///a%zz" + secret:                {nil, "file:///absolute/path"},
		"file:///a?relaod=" + secret:           {nil, "unknown or repeated parameter"},
		"file:///a?reload=1s&reload=" + secret: {nil, "unknown or repeated parameter"},
		"file:///a?reload=" + secret:           {nil, "the URI parameter \"reload\" must be"},
		"file:///a?reload=-1s&" + secret:       {nil, "re"},
		"file:///a?%zz" + secret:               {nil, "after '?' in the URI"},
		"passphrase:" + secret:                 {nil, "passphrase:env:NAME"},
		"passphrase://" + secret:               {nil, "passphrase:env:NAME"},
		"passphrase:env:":                      {nil, "passphrase:env:NAME"},
		"passphrase:env:NOT SET " + secret:     {nil, "not set"},
		"passphrase:env:X?pepper=" + secret:    {nil, "unknown or repeated parameter"},
		"passphrase:env:X?salt=" + secret:      {nil, "salt in the URI must have 32 hex digits"},
		"passphrase:file:relative":             {nil, "passphrase:env:NAME"},
	} {
		_, err := aead.OpenKEK(t.Context(), uri, c.openers...)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", uri, err, c.want)
		} else if strings.Contains(err.Error(), secret) {
			t.Errorf("the error quotes the URI: %v", err)
		}
	}
	if _, err := aead.OpenKEK(t.Context(), "file:///does/not/exist"); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "/does/not/exist") {
		t.Errorf("a missing file: %v", err)
	}
	if _, err := aead.OpenKEK(t.Context(), "passphrase:env:NOT_SET"); err == nil || !strings.Contains(err.Error(), "NOT_SET is not set") {
		t.Errorf("a missing variable: %v", err)
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

// closer is a KEK whose Close does not return normally.
type closer struct {
	tink.AEADWithContext
	close func()
}

func (k closer) Close() error {
	k.close()
	return nil
}

// lateOpener is an opener that ignores its context.
type lateOpener struct {
	opener
	takes time.Duration
}

func (o *lateOpener) OpenKEK(ctx context.Context, uri string) (tink.AEADWithContext, error) {
	time.Sleep(o.takes)
	return o.opener.OpenKEK(ctx, uri)
}

// A KEK that an opener made is closed in a goroutine without a caller. A panic there does not end the process, and Close does not
// wait without end.
func TestKEKWhoseCloseFails(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]func(){
		"panics":  func() { panic("secret") },
		"exits":   runtime.Goexit,
		"returns": func() {},
		"hangs":   func() { time.Sleep(time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				o := &lateOpener{opener: opener{schemes: []string{"fake"}, kek: closer{newKeyring(t), f}}}
				e, err := aead.NewEnvelope(t.Context(), newKeyring(t), aead.WithTenantKEKs("fake:{tenant}", o))
				if err != nil {
					t.Fatal(err)
				}
				sealFor(t, newTenant(t, e, "a"), "value")
				began := time.Now()
				err = e.Close()
				if took := time.Since(began); took > 11*time.Second || (err == nil) != (name == "returns") {
					t.Errorf("Close returned %v after %v", err, took)
				}
				if err != nil && strings.Contains(err.Error(), "secret") {
					t.Error(err)
				}
				o.takes = time.Minute
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if _, err := aead.OpenKEK(ctx, "fake:x", o); !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				}
				time.Sleep(2 * time.Hour) // the late KEK is closed
			})
		})
	}
}

// Warnings and failed reloads go to the logger that the caller gave, also those of the KEKs of tenants.
func TestLoggerOfKEKs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "a.json")
	if err := writeKEK(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	logged := func(open func(log *slog.Logger)) string {
		var b bytes.Buffer
		open(slog.New(slog.NewTextHandler(&b, nil)))
		return b.String()
	}
	one := logged(func(log *slog.Logger) {
		kek, err := aead.OpenKEKWithLogger(t.Context(), "file://"+path+"?reload=off", log)
		if err != nil {
			t.Fatal(err)
		}
		if err := kek.Close(); err != nil {
			t.Error(err)
		}
	})
	tenants := logged(func(log *slog.Logger) {
		e := newEnvelope(t, newKeyring(t), aead.WithTenantKEKs("file://"+dir+"/{tenant}.json?reload=off"), aead.WithLogger(log))
		sealFor(t, newTenant(t, e, "a"), "value")
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	for which, text := range map[string]string{"one": one, "tenant": tenants} {
		if !strings.Contains(text, "level=WARN") {
			t.Errorf("%s: the warning about the file's mode is missing: %q", which, text)
		}
	}
	salt := logged(func(log *slog.Logger) {
		if err := os.WriteFile(path, []byte("a passphrase of a test"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := aead.OpenKEKWithLogger(t.Context(), "passphrase:file:"+path, log); err != nil {
			t.Fatal(err)
		}
	})
	if !strings.Contains(salt, "salt") {
		t.Errorf("the warning about the salt is missing: %q", salt)
	}
	if _, err := aead.OpenKEKWithLogger(t.Context(), "file://"+path, nil); err == nil {
		t.Error("a nil logger was accepted")
	}
}
