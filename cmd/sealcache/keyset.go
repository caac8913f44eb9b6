package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/aead/insecurecleartextkeyset" //nolint:depguard // to rotate the keyset of a file:// KEK, which is plaintext
	"github.com/sealcache/sealcache/internal/sleep"
)

// keysetFile is a keyset that a command may change: sealed under a key-encryption key, or, with a nil one, plaintext.
type keysetFile struct {
	path string
	kek  tink.AEADWithContext // opens it
	to   tink.AEADWithContext // seals it again
	name string

	ofKEK bool // it is the keyset of --kek, because no --keyset is given
}

func (k *keysetFile) place() keysetPlace { return keysetPlace{k.path, k.ofKEK} }

// errNoChange is returned by an edit that has nothing to change. The times of the keys are still brought up to date.
var errNoChange = errors.New("the keyset needs no change")

// errTimesNotSaved reports that the keyset was changed, and its file of key times was not.
var errTimesNotSaved = errors.New("the keyset was changed and works, but the ages of its keys were not saved (the next change saves them)")

// errBusy reports that another command is changing the keyset, or has just changed it.
var errBusy = errors.New("another command is changing the keyset (try again)")

// change reads the keyset, edits it and replaces the file. The file always holds the whole old keyset or the whole new
// one. The new one is opened again before it takes its place. A change waits for another one until ctx ends, then it fails
// with errBusy.
func (k *keysetFile) change(ctx context.Context, edit func(m *keyset.Manager, now *keysetView) error) (*keysetView, error) {
	for {
		view, err := k.changeOnce(ctx, edit)
		if !errors.Is(err, errBusy) || sleep.For(ctx, 20*time.Millisecond) != nil {
			return view, err
		}
	}
}

func (k *keysetFile) changeOnce(ctx context.Context, edit func(m *keyset.Manager, now *keysetView) error) (*keysetView, error) {
	path, err := filepath.EvalSymlinks(k.path)
	if err != nil {
		if _, e := aead.FileSource(k.path).Load(ctx); e != nil {
			err = e // in the form of the commands that read, and without a keyset that was given in place of its path
		}
		return nil, fileError(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fileError(fmt.Errorf("keyset file: %w", err))
	}
	if !info.Mode().IsRegular() {
		return nil, wrong("the keyset is not a regular file: %s", path)
	}
	lock := lockOf(path)
	switch locked, err := lock.TryLock(); {
	case err != nil:
		return nil, fileError(fmt.Errorf("lock the keyset file: %w", err))
	case !locked:
		return nil, errBusy
	}
	defer lock.Unlock() //nolint:errcheck // closing releases it
	if info, err = lockedFile(lock, path); err != nil {
		return nil, err
	}
	before, err := os.ReadFile(path)
	if err != nil {
		return nil, fileError(fmt.Errorf("keyset file: %w", err))
	}
	c, err := k.edit(ctx, before, edit)
	if err != nil && !errors.Is(err, errNoChange) {
		return nil, err
	}
	return c.after, k.replace(path, info, before, c)
}

// replace puts the new keyset into its place, with the times of its keys.
func (k *keysetFile) replace(path string, info os.FileInfo, before []byte, c *keysetChange) error {
	// Times that do not open are unknown: they count from now on.
	times, err := readKeyTimes(path, c.oldHandle)
	if errors.Is(err, aead.ErrNewerKeyTimes) {
		return wrong("the keyset was not changed, because a newer release wrote the file %s (use that release)", timesFile(path))
	}
	old, err := os.Stat(timesFile(path))
	had := err == nil
	if had && !old.Mode().IsRegular() {
		return wrong("the keyset was not changed, because the path %s is not a regular file", timesFile(path))
	}
	now := time.Now()
	next := times.observe(c.before, c.after, now)
	if c.data == nil {
		withTimes(c.after.keys, next)
		if had && next.equal(times) {
			return nil
		}
		return next.write(path, c.newHandle)
	}
	if times.created(c.before, c.after, now) {
		if err := times.write(path, c.oldHandle); err != nil {
			return fmt.Errorf("the keyset was not changed, because the file with the ages of the keys cannot be written: %w", err)
		}
		next = times.observe(c.before, c.after, now)
	}
	withTimes(c.after.keys, next)
	replaced := false
	err = replaceLocked(path, info, before, c.data, func() error {
		replaced = true
		if err := next.write(path, c.newHandle); err != nil {
			return &statusError{exitFailed, fmt.Errorf("%w: %w", errTimesNotSaved, err)} // something was changed
		}
		return nil
	})
	if !replaced && !had {
		_ = os.Remove(timesFile(path))
	}
	return err
}

// lockedFile returns the file behind a lock. Another command may have replaced it before the lock was taken.
func lockedFile(lock *flock.Flock, path string) (os.FileInfo, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fileError(err)
	}
	if lock.Path() == path {
		if held, err := lock.Stat(); err != nil || !os.SameFile(held, info) {
			return nil, errBusy
		}
	}
	return info, nil
}

// keysetChange is a keyset before and after a change. Without data nothing is to be changed.
type keysetChange struct {
	oldHandle, newHandle *keyset.Handle
	before, after        *keysetView
	data                 []byte
}

// edit returns the edited keyset. Its bytes were opened and compared with the intended keyset. With errNoChange it returns
// the present keyset.
func (k *keysetFile) edit(ctx context.Context, before []byte, edit func(m *keyset.Manager, now *keysetView) error) (*keysetChange, error) {
	handle, view, err := readKeyset(ctx, before, k.kek, k.name)
	if err != nil {
		return nil, refusedKeyset(k.path, checkKeyset, err)
	}
	if times, err := readKeyTimes(k.path, handle); err != nil {
		view.timesRefused = true
	} else {
		view.stored = times
		withTimes(view.keys, times.observe(view, view, time.Now()))
	}
	view.fileDigest = digestOf(before)
	m := keyset.NewManagerFromHandle(handle)
	if err := edit(m, view); err != nil {
		return &keysetChange{oldHandle: handle, newHandle: handle, before: view, after: view}, err
	}
	changed, err := m.Handle()
	if err != nil {
		return nil, errors.New("the keyset was not changed, because Tink refused the new keyset (is the primary key disabled?)")
	}
	after, err := k.write(ctx, changed, view.associatedData, isJSON(before))
	if err != nil {
		return nil, err
	}
	_, written, err := readKeyset(ctx, after, k.to, k.name)
	if err != nil {
		return nil, fmt.Errorf("the keyset was not changed, because the new keyset cannot be opened: %w", err)
	}
	if viewOf(changed, view.prf).states() != written.states() {
		return nil, errors.New("keyset unchanged: in a test, the KEK did not decrypt what it had encrypted (check the KEK)")
	}
	written.timesRefused = view.timesRefused
	return &keysetChange{oldHandle: handle, newHandle: changed, before: view, after: written, data: after}, nil
}

// readKeyset opens a keyset. A byte order mark before it is skipped, as package aead does. Tink's errors are not passed
// on: they quote their input. A sealed keyset without a name also opens if a name is given.
func readKeyset(ctx context.Context, data []byte, kek tink.AEADWithContext, name string) (*keyset.Handle, *keysetView, error) {
	digest := digestOf(data)
	data = withoutMark(data)
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
	// Package aead refuses a plaintext keyset before its bytes reach a key service, and keeps the error of the KEK.
	recorder := &kekRecorder{AEADWithContext: kek}
	opts := nameOptions(name)
	ring, err := aead.OpenKeyring(ctx, source, recorder, opts...)
	isPRF := false
	if err == nil {
		err = ring.Close()
	} else if _, e := aead.OpenPRF(ctx, source, recorder, opts...); e == nil {
		isPRF, err = true, nil
	}
	if err != nil {
		return nil, nil, err
	}
	var reader keyset.Reader = keyset.NewBinaryReader(bytes.NewReader(data))
	if isJSON(data) {
		reader = keyset.NewJSONReader(bytes.NewReader(data))
	}
	h, err := keyset.ReadWithContext(ctx, reader, kek, recorder.opened)
	if err != nil {
		return nil, nil, errors.New("the keyset was not opened: the KEK decrypted it once, but not again (is the KEK reachable?)")
	}
	v := viewOf(h, isPRF)
	v.digest, v.associatedData = digest, recorder.first
	return h, v, nil
}

// refusedKeyset names the file of a keyset that the key-encryption key refused. A keyset with another name is not authentic, so
// the error then also names what to check.
func refusedKeyset(file, check string, err error) error {
	switch {
	case file == "" || !refusedByKey(err):
	case errors.Is(err, aead.ErrUnauthentic):
		err = fmt.Errorf("keyset %s (check %s): %w", file, check, err)
	default:
		err = fmt.Errorf("keyset %s: %w", file, err)
	}
	return keyError(err)
}

// checkKeyset is what a keys command names in refusedKeyset.
const checkKeyset = "--kek and --keyset-name"

// nameOptions bind a keyset to its name, if it has one.
func nameOptions(name string) []aead.KeyringOption {
	if name == "" {
		return nil
	}
	return []aead.KeyringOption{aead.WithKeysetName(name)}
}

// kekRecorder records what Tink does not return: the associated data of a keyset, and the error of its key-encryption
// key. A keyset that is sealed without its name opens at the second attempt.
type kekRecorder struct {
	tink.AEADWithContext
	first, opened []byte // of the first attempt, and of the one that succeeded
	called        bool
	err           error
}

func (r *kekRecorder) DecryptWithContext(ctx context.Context, ciphertext, associatedData []byte) ([]byte, error) {
	if !r.called {
		r.called, r.first = true, bytes.Clone(associatedData)
	}
	out, err := r.AEADWithContext.DecryptWithContext(ctx, ciphertext, associatedData)
	if err == nil {
		r.opened = bytes.Clone(associatedData)
	}
	return out, err
}

func (r *kekRecorder) EncryptWithContext(ctx context.Context, plaintext, associatedData []byte) ([]byte, error) {
	out, err := r.AEADWithContext.EncryptWithContext(ctx, plaintext, associatedData)
	r.err = err
	return out, err
}

func (k *keysetFile) write(ctx context.Context, h *keyset.Handle, associatedData []byte, asJSON bool) ([]byte, error) {
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
	recorder := &kekRecorder{AEADWithContext: k.to}
	if err := h.WriteWithContext(ctx, w, recorder, associatedData); err != nil {
		if recorder.err != nil {
			return nil, fmt.Errorf("the keyset was not changed, because it cannot be sealed: %w", recorder.err)
		}
		return nil, errors.New("the keyset was not changed, because the Tink library failed to encode it (report this as a bug)")
	}
	return b.Bytes(), nil
}

func withoutMark(data []byte) []byte { return bytes.TrimPrefix(data, []byte("\ufeff")) }

func isJSON(data []byte) bool {
	return bytes.HasPrefix(bytes.TrimSpace(withoutMark(data)), []byte("{"))
}

// keysetView describes a keyset without its material.
type keysetView struct {
	keys           []keyInfo
	prf            bool
	digest         string   // of the bytes, if they are sealed
	fileDigest     string   // of the bytes
	associatedData []byte   // that binds the keyset to its name
	stored         keyTimes // as their file has them, before a change
	timesRefused   bool     // their file does not belong to the keyset, or cannot be read
}

// digestOf returns the SHA-256 of bytes in hexadecimal digits. It differs for every sealed keyset, and after every change: each
// sealing has a new nonce.
func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// keyInfo describes a key, in every report.
type keyInfo struct {
	ID      uint32 `json:"id"`
	Type    string `json:"type"`
	Prefix  string `json:"prefix"`
	Status  string `json:"status"`
	Primary bool   `json:"primary"`

	Times aead.KeyTimes `json:"times,omitzero"`
}

// The words for keyInfo.Status.
const (
	statusEnabled   = "enabled"
	statusDisabled  = "disabled"
	statusDestroyed = "destroyed"
)

func viewOf(h *keyset.Handle, isPRF bool) *keysetView {
	info := h.KeysetInfo()
	v := &keysetView{prf: isPRF}
	for _, k := range info.GetKeyInfo() {
		kind := k.GetTypeUrl()
		v.keys = append(v.keys, keyInfo{
			ID: k.GetKeyId(), Type: kind[strings.LastIndexByte(kind, '.')+1:], Prefix: k.GetOutputPrefixType().String(),
			Status: strings.ToLower(k.GetStatus().String()), Primary: k.GetKeyId() == info.GetPrimaryKeyId(),
		})
	}
	return v
}

// infoOf describes the keys of a keyring.
func infoOf(ring *aead.Keyring) []keyInfo {
	if ring == nil {
		return nil
	}
	var keys []keyInfo
	for _, k := range ring.Keys() {
		keys = append(keys, keyInfo{ID: k.ID, Type: k.Type, Prefix: k.Prefix, Status: strings.ToLower(k.Status.String()), Primary: k.Primary, Times: k.Times})
	}
	return keys
}

// sayDisabled names the disabled keys after something did not open, because it may be sealed under one of them.
func sayDisabled(p *program, keys []keyInfo) {
	for _, k := range keys {
		if k.Status == "disabled" {
			fmt.Fprintf(p.stderr, "key %[1]d is disabled, so it opens no value (if it was disabled too early, run \"sealcache keys enable %[1]d\")\n", k.ID)
		}
	}
}

// key returns nil if there is none of the id.
func (v *keysetView) key(id uint32) *keyInfo {
	for i := range v.keys {
		if v.keys[i].ID == id {
			return &v.keys[i]
		}
	}
	return nil
}

func (v *keysetView) primary() *keyInfo { return primaryOf(v.keys) }

func primaryOf(keys []keyInfo) *keyInfo {
	for i := range keys {
		if keys[i].Primary {
			return &keys[i]
		}
	}
	return &keyInfo{}
}

// String lists the keys, one on a line.
func (v *keysetView) String() string {
	var b strings.Builder
	for _, k := range v.keys {
		mark := " "
		if k.Primary {
			mark = "*"
		}
		fmt.Fprintf(&b, "%s %10d  %-24s %-8s %-9s %s\n", mark, k.ID, k.Type, k.Prefix, k.Status, timesText(k.Times, k.Status, k.Primary))
	}
	return b.String()
}

// states lists the keys without their times.
func (v *keysetView) states() string {
	without := keysetView{keys: slices.Clone(v.keys)}
	withTimes(without.keys, nil)
	return without.String()
}
