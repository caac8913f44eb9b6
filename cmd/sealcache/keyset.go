package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/insecurecleartextkeyset" //nolint:depguard // to rotate the keyset of a file:// KEK, which is in clear
)

// keysetFile is a keyset that can be changed: sealed under kek, or, with a nil kek, in clear, as a file:// KEK is.
type keysetFile struct {
	path string
	kek  tink.AEADWithContext // that opens it
	to   tink.AEADWithContext // that seals it again
}

// change reads the keyset, has it changed, and replaces the file. What is there afterwards is the old keyset or the new
// one, as a whole, whatever happens: the new one is written beside it, opened again, and put in its place by a rename. Like
// git's index, it is written to FILE.lock, so that of two changes at a time one is refused. A change by another tool
// meanwhile is refused too.
func (k *keysetFile) change(ctx context.Context, edit func(m *keyset.Manager, now *keysetView) error) (*keysetView, error) {
	path, err := filepath.EvalSymlinks(k.path)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("the keyset is not a regular file")
	}
	lock, err := os.OpenFile(path+".lock", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("%s.lock is there: another change of the keyset is under way, or one was killed. If nothing changes it, remove that file", path)
	}
	if err != nil {
		return nil, err
	}
	renamed := false
	defer func() {
		_ = lock.Close()
		if !renamed {
			_ = os.Remove(lock.Name())
		}
	}()
	before, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	handle, view, err := readKeyset(ctx, before, k.kek)
	if err != nil {
		return nil, err
	}
	m := keyset.NewManagerFromHandle(handle)
	if err := edit(m, view); err != nil {
		return nil, err
	}
	changed, err := m.Handle()
	if err != nil {
		return nil, errors.New("the keyset cannot be changed so")
	}
	after, err := k.write(ctx, changed, isJSON(before))
	if err != nil {
		return nil, err
	}
	// What would be put in service opens, and holds what was meant.
	_, written, err := readKeyset(ctx, after, k.to)
	if err != nil {
		return nil, fmt.Errorf("the new keyset does not open again, so the old one stays: %w", err)
	}
	if viewOf(changed, view.prf).String() != written.String() {
		return nil, errors.New("the new keyset does not read as it was written, so the old one stays")
	}
	if err := lock.Chmod(info.Mode().Perm()); err != nil {
		return nil, err
	}
	if err := sameOwner(lock, info); err != nil {
		return nil, fmt.Errorf("the new file cannot have the owner of the old one, so the old one stays: %w", err)
	}
	if _, err := lock.Write(after); err != nil {
		return nil, err
	}
	if err := lock.Sync(); err != nil {
		return nil, err
	}
	if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, before) {
		return nil, errors.New("the keyset was changed meanwhile by something else: look at it, and try again")
	}
	if err := os.Rename(lock.Name(), path); err != nil {
		return nil, err
	}
	renamed = true
	return written, syncDirectory(filepath.Dir(path))
}

// syncDirectory makes a rename last.
func syncDirectory(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return nil
}

// readKeyset opens a keyset. Tink's texts are not passed on: they quote what they parse.
func readKeyset(ctx context.Context, data []byte, kek tink.AEADWithContext) (*keyset.Handle, *keysetView, error) {
	source := aead.BytesSource(data)
	if kek == nil {
		h, err := insecurecleartextkeyset.Handle(ctx, source)
		if err != nil {
			return nil, nil, err
		}
		ring, err := insecurecleartextkeyset.OpenKeyring(ctx, source)
		if err == nil {
			return h, viewOf(h, false), ring.Close()
		}
		if _, e := insecurecleartextkeyset.OpenPRF(ctx, source); e != nil {
			return nil, nil, err
		}
		return h, viewOf(h, true), nil
	}
	// Package aead tells a keyset in clear, whose bytes must not be sent to a key service, and keeps the KEK's own error.
	ring, err := aead.OpenKeyring(ctx, source, kek)
	isPRF := false
	if err == nil {
		err = ring.Close()
	} else if _, e := aead.OpenPRF(ctx, source, kek); e == nil {
		isPRF, err = true, nil
	}
	if err != nil {
		return nil, nil, err
	}
	var reader keyset.Reader = keyset.NewBinaryReader(bytes.NewReader(data))
	if isJSON(data) {
		reader = keyset.NewJSONReader(bytes.NewReader(data))
	}
	h, err := keyset.ReadWithContext(ctx, reader, kek, nil)
	if err != nil {
		return nil, nil, errors.New("the keyset does not open")
	}
	v := viewOf(h, isPRF)
	v.digest = digestOf(data)
	return h, v, nil
}

func (k *keysetFile) write(ctx context.Context, h *keyset.Handle, asJSON bool) ([]byte, error) {
	var b bytes.Buffer
	if k.to == nil {
		if err := insecurecleartextkeyset.Write(&b, h); err != nil {
			return nil, err
		}
		return b.Bytes(), nil
	}
	var w keyset.Writer = keyset.NewBinaryWriter(&b)
	if asJSON {
		w = keyset.NewJSONWriter(&b)
	}
	spy := &kekSpy{AEADWithContext: k.to}
	if err := h.WriteWithContext(ctx, w, spy, nil); err != nil {
		if spy.err != nil {
			return nil, fmt.Errorf("sealing the keyset: %w", spy.err)
		}
		return nil, errors.New("the keyset cannot be written")
	}
	return b.Bytes(), nil
}

// kekSpy keeps the error of a key-encryption key, which Tink flattens.
type kekSpy struct {
	tink.AEADWithContext
	err error
}

func (s *kekSpy) EncryptWithContext(ctx context.Context, plaintext, associatedData []byte) ([]byte, error) {
	out, err := s.AEADWithContext.EncryptWithContext(ctx, plaintext, associatedData)
	s.err = err
	return out, err
}

func isJSON(data []byte) bool { return bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) }

// keysetView is what may be known of a keyset.
type keysetView struct {
	keys   []keyView
	prf    bool
	digest string // of the bytes, if they are sealed
}

// digestOf tells one sealed keyset from another, and from itself after any change: each is sealed with a new nonce.
func digestOf(sealed []byte) string {
	sum := sha256.Sum256(sealed)
	return hex.EncodeToString(sum[:])
}

type keyView struct {
	id                   uint32
	kind, prefix, status string
	primary              bool
}

func viewOf(h *keyset.Handle, isPRF bool) *keysetView {
	info := h.KeysetInfo()
	v := &keysetView{prf: isPRF}
	for _, k := range info.GetKeyInfo() {
		kind := k.GetTypeUrl()
		status := strings.ToLower(k.GetStatus().String())
		if status != "" {
			status = strings.ToUpper(status[:1]) + status[1:]
		}
		v.keys = append(v.keys, keyView{
			id: k.GetKeyId(), kind: kind[strings.LastIndexByte(kind, '.')+1:], prefix: k.GetOutputPrefixType().String(),
			status: status, primary: k.GetKeyId() == info.GetPrimaryKeyId(),
		})
	}
	return v
}

// key is nil if there is none of the id.
func (v *keysetView) key(id uint32) *keyView {
	for i := range v.keys {
		if v.keys[i].id == id {
			return &v.keys[i]
		}
	}
	return nil
}

func (v *keysetView) primary() *keyView {
	for i := range v.keys {
		if v.keys[i].primary {
			return &v.keys[i]
		}
	}
	return &keyView{}
}

// String lists the keys, a line each.
func (v *keysetView) String() string {
	var b strings.Builder
	for _, k := range v.keys {
		mark := " "
		if k.primary {
			mark = "*"
		}
		fmt.Fprintf(&b, "%s %10d  %-24s %-8s %s\n", mark, k.id, k.kind, k.prefix, k.status)
	}
	return b.String()
}

// file is the keyset that the flags name: -keyset, sealed under -kek, or else the file of a file:// KEK.
func (k *keyFlags) file(ctx context.Context) (f *keysetFile, done func(), err error) {
	if *k.kek == "" {
		return nil, nil, wrong("-kek is missing")
	}
	if *k.keyset == "" {
		path, err := fileOfKEK(*k.kek)
		if err != nil {
			return nil, nil, err
		}
		return &keysetFile{path: path}, func() {}, nil
	}
	path := *k.keyset
	if strings.HasPrefix(path, "env:") {
		return nil, nil, wrong("a keyset in a variable cannot be changed here: give its -keyset as a file, and put that into the variable")
	}
	if strings.HasPrefix(path, "file:") {
		u, err := url.Parse(path)
		if err != nil || u.Path == "" || u.Host != "" && u.Host != "localhost" || u.RawQuery != "" {
			return nil, nil, wrong("-keyset: not a file URL such as file:///run/secrets/keyset.json")
		}
		path = u.Path
	}
	kek, done, err := openKEK(ctx, *k.kek)
	if err != nil {
		return nil, nil, err
	}
	return &keysetFile{path: path, kek: kek, to: kek}, done, nil
}

// fileOfKEK is the file of a file:// KEK.
func fileOfKEK(uri string) (string, error) {
	if !strings.HasPrefix(strings.ToLower(uri), "file:") {
		return "", errors.New("there is no keyset: the key is in a key service, which rotates it itself, or made from a passphrase. A -keyset under it can be rotated")
	}
	u, err := url.Parse(uri)
	if err != nil || !filepath.IsAbs(u.Path) || u.Host != "" && u.Host != "localhost" {
		return "", wrong("-kek: want file:///absolute/path")
	}
	return u.Path, nil
}

// openKEK opens a key-encryption key.
func openKEK(ctx context.Context, uri string) (kek tink.AEADWithContext, done func(), err error) {
	kek, err = aead.OpenKEK(ctx, uri, openers()...)
	if err != nil {
		return nil, nil, kekHint(err)
	}
	done = func() {}
	if c, ok := kek.(io.Closer); ok {
		done = func() { _ = c.Close() }
	}
	return kek, done, nil
}
