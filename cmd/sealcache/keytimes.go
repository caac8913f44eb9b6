package main

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/sealcache/sealcache/aead"
)

// keyTimes are the times of a keyset's keys by id. Tink's keysets have none, so a file next to the keyset holds them. It is
// written after the keyset, except for the time of a new key. A command that is killed in between, and a tool that knows only
// Tink's keyset, leave it out of date. Then observe finds out what changed, and uses its own time as the time of the change.
type keyTimes map[uint32]aead.KeyTimes

func timesFile(path string) string { return path + aead.KeyTimesSuffix }

// readKeyTimes returns the times of the keys. Without a file they are unknown.
func readKeyTimes(path string, h *keyset.Handle) (keyTimes, error) {
	times := keyTimes{}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	data, err := readInput(timesFile(path))
	if errors.Is(err, fs.ErrNotExist) {
		return times, nil
	}
	if err != nil {
		return times, err
	}
	list, err := aead.OpenKeyTimes(h, data)
	for _, t := range list {
		times[t.ID] = t
	}
	return times, err
}

// write replaces the file of the times. The caller holds the lock of the keyset, whose mode and owner it gets.
func (k keyTimes) write(path string, h *keyset.Handle) error {
	list := make([]aead.KeyTimes, 0, len(k))
	for _, id := range slices.Sorted(maps.Keys(k)) {
		list = append(list, k[id])
	}
	data, err := aead.SealKeyTimes(h, list)
	if err != nil {
		return err
	}
	keysetInfo, err := os.Stat(path)
	if err != nil {
		return fileError(err)
	}
	name := timesFile(path) + ".new"
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fileError(forFile(err, timesFile(path)))
	}
	err = errors.Join(f.Chmod(keysetInfo.Mode().Perm()), sameOwner(f, keysetInfo), writeAndClose(f, data))
	if err == nil {
		err = os.Rename(name, timesFile(path))
	}
	if err != nil {
		return errors.Join(forFile(err, timesFile(path)), os.Remove(name))
	}
	return syncDirectory(filepath.Dir(path))
}

// observe brings the times up to date with the keyset. before is the keyset before a change, or the same.
func (k keyTimes) observe(before, after *keysetView, now time.Time) keyTimes {
	now = now.UTC().Truncate(time.Second)
	next := keyTimes{}
	for _, key := range after.keys {
		t, known := k[key.ID]
		t.ID = key.ID
		old := before.key(key.ID)
		switch {
		case key.Primary && old != nil && !old.Primary, key.Primary && known && t.Promoted.IsZero():
			t.Promoted, t.Demoted = now, time.Time{} // it became the primary key, just now or since the last command
		case key.Primary && !t.Demoted.IsZero():
			t.Promoted, t.Demoted = now, time.Time{}
		case !key.Primary && t.Demoted.IsZero() && (old != nil && old.Primary || !t.Promoted.IsZero() || t.Created.IsZero()):
			t.Demoted = now // of a key of unknown age at the latest
		}
		switch {
		case key.Status != statusEnabled && t.Disabled.IsZero():
			t.Disabled, t.Enabled = now, time.Time{}
		case key.Status == statusEnabled && !t.Disabled.IsZero():
			t.Disabled, t.Enabled = time.Time{}, now
		}
		next[key.ID] = t
	}
	return next
}

// created notes the keys that a change adds. It is written before the keyset: a time without its key is harmless.
func (k keyTimes) created(before, after *keysetView, now time.Time) (added bool) {
	for _, key := range after.keys {
		if before.key(key.ID) == nil {
			k[key.ID] = aead.KeyTimes{ID: key.ID, Created: now.UTC().Truncate(time.Second)}
			added = true
		}
	}
	return added
}

// equal reports whether nothing changed.
func (k keyTimes) equal(other keyTimes) bool {
	return maps.EqualFunc(k, other, func(t, o aead.KeyTimes) bool {
		return t.ID == o.ID && t.Created.Equal(o.Created) && t.Promoted.Equal(o.Promoted) && t.Demoted.Equal(o.Demoted) &&
			t.Disabled.Equal(o.Disabled) && t.Enabled.Equal(o.Enabled)
	})
}

// createKeysetFile writes a new keyset and the times of its keys, and adds the times to view. After an error about the times, the
// keyset is there, and its times may stay unknown.
func createKeysetFile(path string, data []byte, h *keyset.Handle, view *keysetView) error {
	if err := createFile(path, data); err != nil {
		return err
	}
	now := time.Now().UTC().Truncate(time.Second)
	id := h.KeysetInfo().GetPrimaryKeyId()
	times := keyTimes{id: {ID: id, Created: now, Promoted: now}}
	if err := times.write(path, h); err != nil {
		return &statusError{exitFailed, fmt.Errorf("the keyset was made and works, but the age of its key stays unknown (do not repeat the command): %w", err)}
	}
	if times, err := readKeyTimes(path, h); err == nil {
		withTimes(view.keys, times)
	}
	return nil
}

// withTimes adds the times to descriptions of keys.
func withTimes(keys []keyInfo, times keyTimes) {
	for i := range keys {
		keys[i].Times = times[keys[i].ID]
	}
}

// timesText describes the times of a key in a line.
func timesText(t aead.KeyTimes, status string, primary bool) string {
	text := "age unknown"
	if !t.Created.IsZero() {
		text = "made " + day(t.Created)
	}
	switch {
	case status == statusDisabled && !t.Disabled.IsZero():
		text += ", disabled " + day(t.Disabled)
	case primary && !t.Promoted.IsZero():
		text += ", primary since " + day(t.Promoted)
	case !primary && !t.Demoted.IsZero():
		text += ", not primary since " + day(t.Demoted)
	}
	return text
}
