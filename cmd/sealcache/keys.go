package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/prf"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
)

// openers are the key services that this program links, beside what package aead opens by itself.
func openers() []aead.KEKOpener { return nil }

// kekHint says of a KEK that this program does not open what its user can do: the modules that package aead names in its
// error are for who links them.
func kekHint(err error) error {
	if text := err.Error(); strings.Contains(text, "unknown KEK scheme") {
		text, _, _ = strings.Cut(text, ";")
		return wrong("%s; this command links no key service: where the keys are in one, call middleware/migrate from a program of your own", text)
	}
	return err
}

// keyTimeout bounds how long opening keys may take.
const keyTimeout = 15 * time.Second

// keyFlags say which keys.
type keyFlags struct {
	prefix, of      string
	kek, keyset, as *string
}

func (f *flags) keys() *keyFlags {
	return &keyFlags{
		kek:    f.env("kek", "SEALCACHE_KEK", "`URI` of the key-encryption key, as file:///run/secrets/kek.json or passphrase:env:NAME"),
		keyset: f.env("keyset", "SEALCACHE_KEYSET", "`file` of the keyset that is sealed under -kek, or env:NAME; none if -kek wraps data keys itself"),
		as:     f.String("keys-as", "envelope", "what the application seals with: an `envelope` over these keys, as fxmodule does, or a keyring"),
	}
}

// changeable are the flags of a keyset that a command changes.
func (f *flags) changeable() *keyFlags {
	return &keyFlags{
		kek:    f.env("kek", "SEALCACHE_KEK", "`URI` of the key-encryption key that -keyset is sealed under; without -keyset, file:///path of a keyset in clear"),
		keyset: f.env("keyset", "SEALCACHE_KEYSET", "`file` of the keyset; given as '' it is none"),
	}
}

func (f *flags) oldKeys() *keyFlags {
	return &keyFlags{
		prefix: "old-", of: "old ",
		kek:    f.String("old-kek", "", "`URI` of the key-encryption key that values are sealed under now, if it is another"),
		keyset: f.String("old-keyset", "", "`file` of the keyset under -old-kek, or env:NAME"),
		as:     f.String("old-keys-as", "envelope", "what they were sealed with: an `envelope` or a keyring"),
	}
}

// opened are keys in use.
type opened struct {
	aead    tink.AEADWithContext // envelope or keyring
	ring    *aead.Keyring        // nil with a key service or a passphrase
	closers []io.Closer
	digest  string // of the bytes of the sealed keyset
}

func (o *opened) close() {
	for i := len(o.closers) - 1; i >= 0; i-- {
		_ = o.closers[i].Close()
	}
}

// use is what keys are opened for.
type use int

const (
	toSeal use = iota // and to open
	toOpen            // a permission to decrypt at the key service is enough
	toList            // the keys of the keyset; no data key is made
)

// open opens the keys.
func (k *keyFlags) open(ctx context.Context, p *program, to use) (*opened, error) {
	if *k.kek == "" {
		return nil, wrong("-%skek is missing", k.prefix)
	}
	if *k.as != "envelope" && *k.as != "keyring" {
		return nil, wrong("-%skeys-as: envelope or keyring", k.prefix)
	}
	ctx, cancel := context.WithTimeout(ctx, keyTimeout)
	defer cancel()
	o := new(opened)
	fail := func(err error) (*opened, error) {
		o.close()
		return nil, fmt.Errorf("%skeys: %w", k.of, err)
	}
	kek, err := aead.OpenKEK(ctx, *k.kek, openers()...)
	if err != nil {
		return fail(kekHint(err))
	}
	if c, ok := kek.(io.Closer); ok {
		o.closers = append(o.closers, c)
	}
	o.ring, _ = kek.(*aead.Keyring)
	if *k.keyset != "" {
		source, err := keysetSource(*k.keyset)
		if err != nil {
			return fail(err)
		}
		if data, err := source.Load(ctx); err == nil { // else the next says why
			o.digest = digestOf(data)
		}
		if o.ring, err = aead.OpenKeyring(ctx, source, kek, aead.WithLogger(p.log), aead.WithReload(keysetReload)); err != nil {
			return fail(err)
		}
		o.closers = append(o.closers, o.ring)
		kek = o.ring
	}
	switch {
	case to == toList:
	case *k.as == "keyring" && o.ring == nil:
		return fail(errors.New("a keyring needs a keyset: give -" + k.prefix + "keyset, or a -" + k.prefix + "kek of file://"))
	case *k.as == "keyring":
		o.aead = o.ring
	default:
		if _, ring := kek.(*aead.Keyring); to == toOpen && !ring {
			kek = &openOnly{AEADWithContext: kek}
		}
		e, err := aead.NewEnvelope(ctx, kek, aead.WithLogger(p.log), aead.WithDataKeyCache(dataKeysHeld))
		if err != nil {
			return fail(err)
		}
		o.closers = append(o.closers, e)
		o.aead = e
	}
	return o, nil
}

// keysetReload is how often a keyset is read again, besides when its file changes, so that a run of hours neither goes on
// sealing under a key that is not primary any more nor takes it for the one that it should be.
const keysetReload = time.Minute

// dataKeysHeld is how many unwrapped data keys a command may hold, at a kilobyte each: it meets all that lie in Redis, in
// no order, and what it does not hold costs a call of the key service for each entry.
const dataKeysHeld = 1 << 17

// keysetSource reads the form of -keyset, which is that of fxmodule: a path, file:///path or env:NAME.
func keysetSource(s string) (aead.Source, error) {
	if name, ok := strings.CutPrefix(s, "env:"); ok {
		if name == "" {
			return nil, errors.New("env: needs the name of a variable")
		}
		return aead.EnvSource(name), nil
	}
	if strings.HasPrefix(s, "file:") {
		u, err := url.Parse(s)
		if err != nil || u.Path == "" || u.Host != "" && u.Host != "localhost" || u.RawQuery != "" {
			return nil, errors.New("not a file URL such as file:///run/secrets/keyset.json")
		}
		return aead.FileSource(u.Path), nil
	}
	return aead.FileSource(s), nil
}

func keyTemplates() map[string]*tinkpb.KeyTemplate {
	return map[string]*tinkpb.KeyTemplate{
		"aes256-gcm":  tinkaead.AES256GCMKeyTemplate(),
		"xaes256-gcm": tinkaead.XAES256GCM192BitNonceKeyTemplate(),
		"prf":         prf.HMACSHA256PRFKeyTemplate(),
	}
}

func keysCreate(p *program, c command, args []string) (int, error) {
	f := newFlags(p, c)
	kekURI := f.env("kek", "SEALCACHE_KEK", "`URI` of the key-encryption key that the keyset is sealed under")
	out := f.String("out", "", "`file` to make; one that exists is an error")
	kind := f.String("type", "aes256-gcm", "`type` of the key: aes256-gcm, xaes256-gcm, or prf for jobs' tokens")
	if err := f.parse(args, 0); err != nil {
		return 0, err
	}
	template, ok := keyTemplates()[*kind]
	switch {
	case *kekURI == "":
		return 0, wrong("-kek is missing")
	case *out == "":
		return 0, wrong("-out is missing")
	case !ok:
		return 0, wrong("-type: aes256-gcm, xaes256-gcm or prf")
	}
	ctx, cancel := context.WithTimeout(p.ctx, keyTimeout)
	defer cancel()
	kek, done, err := openKEK(ctx, *kekURI)
	if err != nil {
		return 0, err
	}
	defer done()
	file, err := os.OpenFile(filepath.Clean(*out), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, err
	}
	err = aead.CreateKeyset(ctx, file, kek, template)
	if err == nil {
		err = file.Sync()
	}
	if e := file.Close(); err == nil {
		err = e
	}
	if err != nil {
		_ = os.Remove(file.Name())
		return 0, err
	}
	fmt.Fprintf(p.stdout, "made %s\n", *out)
	return exitDone, nil
}

func keysList(p *program, c command, args []string) (int, error) {
	f := newFlags(p, c)
	k := f.keys()
	if err := f.parse(args, 0); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(p.ctx, keyTimeout)
	defer cancel()
	var source aead.Source
	var kek tink.AEADWithContext
	switch {
	case *k.kek == "":
		return 0, wrong("-kek is missing")
	case *k.keyset == "":
		path, err := fileOfKEK(*k.kek)
		if err != nil {
			return 0, err
		}
		source = aead.FileSource(path)
	default:
		var err error
		if source, err = keysetSource(*k.keyset); err != nil {
			return 0, err
		}
		var done func()
		if kek, done, err = openKEK(ctx, *k.kek); err != nil {
			return 0, err
		}
		defer done()
	}
	data, err := source.Load(ctx)
	if err != nil {
		return 0, err
	}
	_, view, err := readKeyset(ctx, data, kek)
	if err != nil {
		return 0, err
	}
	_, err = fmt.Fprint(p.stdout, view)
	return exitDone, err
}
