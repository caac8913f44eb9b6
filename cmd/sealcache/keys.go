package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	tinkaead "github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/prf"
	tinkpb "github.com/tink-crypto/tink-go/v2/proto/tink_go_proto"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/awskms"
	"github.com/sealcache/sealcache/aead/gcpkms"
	"github.com/sealcache/sealcache/aead/gocloud"
	"github.com/sealcache/sealcache/aead/hcvault"
	"github.com/sealcache/sealcache/internal/keyconfig"
)

// openers are the key services that this program links, besides the schemes of package aead.
func openers() []aead.KEKOpener {
	return []aead.KEKOpener{awskms.Opener{}, gcpkms.Opener{}, gocloud.Opener{}, hcvault.Opener{}}
}

// schemes are the schemes of key-encryption keys that this program opens.
func schemes() []string {
	known := []string{"file", "passphrase"}
	for _, o := range openers() {
		known = append(known, o.Schemes()...)
	}
	slices.Sort(known) // as in the errors of package aead
	return known
}

// kekError explains a key-encryption key that does not open. The advice of package aead is for programs.
func kekError(uri string, err error) error {
	scheme, _, ok := strings.Cut(strings.ToLower(uri), ":")
	if ok && !slices.Contains(schemes(), scheme) && !strings.ContainsAny(scheme, "/.") {
		return wrong("unknown scheme %q of the key-encryption key (allowed schemes: %s)", scheme, strings.Join(schemes(), ", "))
	}
	return keyError(err)
}

// keyTimeout bounds how long opening keys may take.
const keyTimeout = 15 * time.Second

// openKEK opens a key-encryption key.
func openKEK(ctx context.Context, uri string) (kek tink.AEADWithContext, done func(), err error) {
	kek, err = aead.OpenKEK(ctx, uri, openers()...)
	if err != nil {
		return nil, nil, kekError(uri, err)
	}
	done = func() {}
	if c, ok := kek.(io.Closer); ok {
		done = func() { _ = c.Close() }
	}
	return kek, done, nil
}

// otherKEKsUse is the description of --other-kek.
const otherKEKsUse = "`URI` of another key-encryption key, which only opens keysets and data keys, and seals nothing; may be repeated"

// openKEKs opens a key-encryption key and others that open only.
func openKEKs(ctx context.Context, uri string, others []string) (kek tink.AEADWithContext, done func(), err error) {
	kek, done, err = openKEK(ctx, uri)
	if err != nil || len(others) == 0 {
		return kek, done, err
	}
	all, dones := []tink.AEADWithContext{kek}, []func(){done}
	done = func() {
		for _, d := range dones {
			d()
		}
	}
	for i, other := range others {
		if other == uri || slices.Contains(others[:i], other) {
			done()
			return nil, nil, wrong("--other-kek: a URI is given twice, or is that of --kek (leave it out)")
		}
		kek, d, err := openKEK(ctx, other)
		if err != nil {
			done()
			return nil, nil, fmt.Errorf("--other-kek: %w", err)
		}
		all, dones = append(all, kek), append(dones, d)
	}
	set, err := aead.NewKEKSet(all[0], all[1:]...)
	if err != nil {
		done()
		return nil, nil, wrong("--other-kek: %w", err)
	}
	return set, done, nil
}

// keysetSource reads the forms of --keyset: a path, file:///path or env:NAME. A keyset in a variable has no path.
func keysetSource(flag, s string) (source aead.Source, path string, err error) {
	variable, path, err := keyconfig.Keyset(s)
	switch {
	case err != nil:
		return nil, "", wrong("--%s: %w", flag, err)
	case variable != "":
		return aead.EnvSource(variable), "", nil
	}
	return aead.FileSource(path), path, nil
}

// fileOfKEK returns the file of a file:// KEK.
func fileOfKEK(uri string) (string, error) {
	if !strings.HasPrefix(strings.ToLower(uri), "file:") {
		return "", wrong("--keyset is missing (only a --kek that starts with file:// works without it)")
	}
	u, err := url.Parse(uri)
	if err != nil || !filepath.IsAbs(u.Path) || u.Host != "" && u.Host != "localhost" {
		return "", wrong("--kek: the value is not a URI such as file:///absolute/path")
	}
	return u.Path, nil
}

// keysetFlags name the keyset that a keys command works on.
type keysetFlags struct {
	f                 *flags
	kek, keyset, name string
	others            []string
}

func (k *keysetFlags) declare(f *flags) {
	k.f = f
	f.env(&k.kek, "kek", "SEALCACHE_KEK", "`URI` of the key-encryption key that seals the keyset; without --keyset, file:///path of a plaintext keyset")
	f.otherKEKs(&k.others)
	f.env(&k.keyset, "keyset", "SEALCACHE_KEYSET", "`FILE` of the keyset; '' for none")
	f.env(&k.name, "keyset-name", "SEALCACHE_KEYSET_NAME", "`NAME` that the keyset is bound to, so that the file cannot replace another keyset under the same --kek")
	f.need("kek")
	f.file("keyset")
}

// fileOfKEK returns the file of the KEK, which is the keyset if --keyset is not given. It is plaintext, so it has no name and
// no other key opens it.
func (k *keysetFlags) fileOfKEK() (string, error) {
	if err := k.f.refuseWithout("--keyset", "keyset-name", "other-kek"); err != nil {
		return "", err
	}
	return fileOfKEK(k.kek)
}

// open returns the keyset as a file that can be changed.
func (k *keysetFlags) open(ctx context.Context) (file *keysetFile, done func(), err error) {
	if k.keyset == "" {
		path, err := k.fileOfKEK()
		if err != nil {
			return nil, nil, err
		}
		return &keysetFile{path: path, ofKEK: true}, func() {}, nil
	}
	if strings.HasPrefix(k.keyset, "env:") {
		return nil, nil, wrong("--keyset: a keyset in an environment variable cannot be changed (give its file)")
	}
	_, path, err := keysetSource("keyset", k.keyset)
	if err != nil {
		return nil, nil, err
	}
	kek, done, err := openKEKs(ctx, k.kek, k.others)
	if err != nil {
		return nil, nil, err
	}
	return &keysetFile{path: path, kek: kek, to: kek, name: k.name}, done, nil
}

// read returns the keyset, which may be in a variable.
func (k *keysetFlags) read(ctx context.Context) (*keysetView, keysetPlace, error) {
	var source aead.Source
	var kek tink.AEADWithContext
	var path string
	var err error
	place := keysetPlace{File: k.keyset}
	if k.keyset == "" {
		if path, err = k.fileOfKEK(); err != nil {
			return nil, place, err
		}
		source, place = aead.FileSource(path), keysetPlace{path, true}
	} else {
		if source, path, err = keysetSource("keyset", k.keyset); err != nil {
			return nil, place, err
		}
		if path != "" {
			place.File = path
		}
		var done func()
		if kek, done, err = openKEKs(ctx, k.kek, k.others); err != nil {
			return nil, place, err
		}
		defer done()
	}
	read, err := readKeysetWithTimes(ctx, source, path, kek, k.name, checkKeyset)
	if err != nil {
		return nil, place, err
	}
	return read.view, place, nil
}

// keysetPlace names the keyset that a keys command read or changed.
type keysetPlace struct {
	File  string `json:"file"`                  // or env:NAME
	OfKEK bool   `json:"file_of_kek,omitempty"` // no --keyset was given, so that it is the plaintext keyset of --kek
}

// String names the place, and says why it is the KEK's.
func (k keysetPlace) String() string {
	if k.OfKEK {
		return k.File + " (no --keyset is given, so this is the file of the KEK)"
	}
	return k.File
}

// The words for keysetRead.times.
const (
	timesAuthenticated = "authenticated"
	timesMissing       = "missing"
	timesRefused       = "refused" // altered, unreadable, or of another keyset
)

// keysetRead is a keyset with the times of its keys.
type keysetRead struct {
	handle *keyset.Handle
	view   *keysetView
	times  string
	digest string // of the bytes
}

// readKeysetWithTimes opens a keyset. path is that of its file, or empty. Times that are missing or refused are unknown. check is
// as in refusedKeyset.
func readKeysetWithTimes(ctx context.Context, source aead.Source, path string, kek tink.AEADWithContext, name, check string) (*keysetRead, error) {
	data, err := source.Load(ctx)
	if err != nil {
		return nil, keyError(err)
	}
	handle, view, err := readKeyset(ctx, data, kek, name)
	if err != nil {
		return nil, refusedKeyset(path, check, err)
	}
	read := &keysetRead{handle: handle, view: view, times: timesMissing, digest: digestOf(data)}
	if path == "" {
		return read, nil
	}
	switch times, err := readKeyTimes(path, handle); {
	case err != nil:
		read.times, view.timesRefused = timesRefused, true
	case len(times) > 0:
		read.times = timesAuthenticated
		withTimes(view.keys, times)
	}
	return read, nil
}

func keyTemplates() map[string]*tinkpb.KeyTemplate {
	return map[string]*tinkpb.KeyTemplate{
		"aes256-gcm":  tinkaead.AES256GCMKeyTemplate(),
		"xaes256-gcm": tinkaead.XAES256GCM192BitNonceKeyTemplate(),
		"prf":         prf.HMACSHA256PRFKeyTemplate(),
	}
}

// typeOf returns the --type of a key, "" if there is none.
func typeOf(kind string) string {
	return map[string]string{"AesGcmKey": "aes256-gcm", "XAesGcmKey": "xaes256-gcm", "HmacPrfKey": "prf"}[kind]
}

// keysReport is the report of a keys command.
type keysReport struct {
	header
	keysetPlace
	Added *uint32 `json:"added_key_id,omitempty"` // the id of a new key
}

// sayTimesRefused says why the ages of keys are unknown. A keyset from a backup lacks the latest keys, and with them the
// key of the file.
func (p *program) sayTimesRefused(f *flags, view *keysetView, place keysetPlace) {
	if view.timesRefused {
		fmt.Fprintf(p.stderr, "%s: the ages of the keys in %s do not belong to this keyset (is the keyset an older copy?)\n", f.cmd.CommandPath(), timesFile(place.File))
	}
}

// writeKeyset prints a keyset, as text or as JSON.
func (p *program) writeKeyset(f *flags, asJSON bool, view *keysetView, place keysetPlace, added *uint32) error {
	p.sayTimesRefused(f, view, place)
	if !asJSON {
		_, err := fmt.Fprintf(p.stdout, "keyset %s\n%s", place, view)
		return err
	}
	r := keysReport{header: newHeader(f), keysetPlace: place, Added: added}
	r.Keyset = view.keys
	return writeJSON(p.stdout, r)
}

// keysCreate is "keys create".
type keysCreate struct {
	kek, out, name, kind string
	json                 bool
}

func (k *keysCreate) declare(f *flags) {
	f.env(&k.kek, "kek", "SEALCACHE_KEK", "`URI` of the key-encryption key that seals the keyset")
	f.StringVar(&k.out, "out", "", "`FILE` to make; it must not exist")
	f.choice(&k.kind, "type", "type of the key; prf is for hidden names, sessions and unique jobs", "aes256-gcm", "xaes256-gcm", "prf")
	f.env(&k.name, "keyset-name", "SEALCACHE_KEYSET_NAME", "`NAME` to bind the keyset to, so that the file cannot replace another keyset under the same --kek")
	f.BoolVar(&k.json, "json", false, jsonUse)
	f.need("kek")
	f.need("out")
	f.file("out")
}

func (k *keysCreate) run(ctx context.Context, p *program, f *flags) (int, error) {
	if err := writable("out", k.out); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, keyTimeout)
	defer cancel()
	kek, done, err := openKEK(ctx, k.kek)
	if err != nil {
		return 0, err
	}
	defer done()
	var data bytes.Buffer
	if err := aead.CreateKeyset(ctx, &data, kek, keyTemplates()[k.kind], nameOptions(k.name)...); err != nil {
		return 0, keyError(err)
	}
	handle, view, err := readKeyset(ctx, data.Bytes(), kek, k.name)
	if err != nil {
		return 0, keyError(err)
	}
	if err := createKeysetFile(filepath.Clean(k.out), data.Bytes(), handle, view); err != nil {
		return 0, err
	}
	if !k.json {
		fmt.Fprintf(p.stderr, "made %s\n", k.out)
	}
	return exitDone, p.writeKeyset(f, k.json, view, keysetPlace{File: k.out}, nil)
}

// keysList is "keys list".
type keysList struct {
	keys keysetFlags
	json bool
}

func (k *keysList) declare(f *flags) {
	k.keys.declare(f)
	f.BoolVar(&k.json, "json", false, jsonUse)
}

func (k *keysList) run(ctx context.Context, p *program, f *flags) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, keyTimeout)
	defer cancel()
	view, place, err := k.keys.read(ctx)
	if err != nil {
		return 0, err
	}
	return exitDone, p.writeKeyset(f, k.json, view, place, nil)
}
