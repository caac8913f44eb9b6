package aead

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// backgroundTimeout bounds every call to a source or key-encryption key that no caller waits for. Some clients of
	// key services try for a minute when the service is gone.
	backgroundTimeout = 10 * time.Second
	// settle is the time from a change in a watched directory to reading the file. A writer has mostly finished by
	// then, and a busy directory costs at most ten reads per second. A half-written file fails to parse, and is read
	// again on its next change.
	settle = 100 * time.Millisecond
	// firstRetry is the wait after the first failure of a background reload.
	firstRetry = time.Second
)

var errNoSource = fmt.Errorf("aead: reload: a Keyring made by NewKeyring has no source to read again (use OpenKeyring): %w", errors.ErrUnsupported)

// Reload reads the source again and puts the new keyset into service as a whole: an operation sees the old one or the new
// one. If anything fails, the old keyset stays in service, unless its key-encryption key refused it, and the error says why.
// Concurrent reloads wait for each other.
//
// Envelopes whose KEK is this Keyring drop their unwrapped data keys before Reload returns.
func (k *Keyring) Reload(ctx context.Context) error {
	return k.reload(ctx, false)
}

// reload does nothing if onlyChanged is set and the source reads as before.
func (k *Keyring) reload(ctx context.Context, onlyChanged bool) error {
	if k.src == nil {
		return errNoSource
	}
	ctx, done, err := k.exclusively(ctx)
	if err != nil {
		return fmt.Errorf("aead: reload: %w", err)
	}
	defer done()
	old := k.keyset.Load()
	if old == nil {
		return ErrClosed
	}
	changed, err := k.replace(ctx, old, onlyChanged)
	if err != nil {
		if !errors.Is(err, context.Canceled) {
			k.stats.reloadFailures.Add(1)
			k.logNotReloaded(ctx, old, err)
		}
		return err
	}
	k.readTimes(ctx, k.src.src)
	if changed {
		k.countReload(ctx)
		k.notify()
	}
	return nil
}

func (k *Keyring) countReload(ctx context.Context) {
	k.stats.reloads.Add(1)
	warnOfKeysetFile(ctx, k.src.src, k.kek.kek, k.log)
	k.log.InfoContext(ctx, "sealcache: the keyset was reloaded", "keys", len(k.keyset.Load().keys), "primary", k.keyset.Load().primary.id)
}

// readAgain reads the source, and takes over a changed keyset. It returns the error of a source that cannot be read, and does
// not log it. It does nothing while another reload is under way, because that one may wait for the caller.
func (k *Keyring) readAgain(ctx context.Context) error {
	select {
	case k.reloading <- struct{}{}:
	default:
		return nil
	}
	defer func() { <-k.reloading }()
	old := k.keyset.Load()
	if old == nil {
		return ErrClosed
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(k.closing, cancel)() //nolint:contextcheck // ends with Close, not with a call
	changed, err := k.replace(ctx, old, true)
	if err != nil || !changed {
		return err
	}
	k.countReload(ctx)
	k.notifyLater()
	return nil
}

// notifyLater is notify without waiting, because a subscriber may wait for the caller. Close waits for the subscribers.
func (k *Keyring) notifyLater() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closing.Err() == nil { // otherwise Close may be waiting already
		k.background.Go(k.notify)
	}
}

// logNotReloaded logs a failed reload, and which keyset is in service.
func (k *Keyring) logNotReloaded(ctx context.Context, old *loadedKeyset, err error) {
	if old.refused != nil {
		k.log.ErrorContext(ctx, "sealcache: the keyset was not reloaded; the KEK refuses the old one, so sealing and opening fail (restore the KEK)", "error", err)
		return
	}
	k.log.ErrorContext(ctx, "sealcache: the keyset could not be reloaded; the old keyset stays in use", "error", err)
}

// exclusively waits for its turn among reloads and KEK checks. The context that it returns also ends with Close.
func (k *Keyring) exclusively(ctx context.Context) (context.Context, func(), error) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(k.closing, cancel)
	release := func() {
		stop()
		cancel()
	}
	select {
	case k.reloading <- struct{}{}:
		return ctx, func() { <-k.reloading; release() }, nil
	case <-ctx.Done():
		defer release()
		if k.closing.Err() != nil {
			return nil, nil, ErrClosed
		}
		return nil, nil, ended(ctx)
	}
}

func (k *Keyring) replace(ctx context.Context, old *loadedKeyset, onlyChanged bool) (changed bool, err error) {
	data, err := k.src.load(ctx)
	if err != nil {
		return false, err
	}
	if onlyChanged && bytes.Equal(data, k.loaded) {
		clear(data) // a keyset in plaintext may be in it, here and below
		return false, nil
	}
	kept := false
	defer func() {
		if kept {
			k.loaded, data = data, k.loaded
		}
		clear(data)
	}()
	handle, err := parseKeyset(ctx, data, k.kek, k.associatedData)
	if err != nil {
		return false, err
	}
	r, err := newLoadedKeyset(handle, &k.counters)
	if err != nil {
		return false, err
	}
	kept = true
	if old.refused == nil && r.same(old) {
		return false, nil
	}
	k.compareKeys(ctx, old, r)
	k.keyset.Store(r)
	return true, nil
}

// onReload registers f, which is called after each change of the keyset, before Reload returns. f must not call Reload or Close.
func (k *Keyring) onReload(f func()) (cancel func()) {
	if k == nil { // embedded in a KEK that will fail at its first use
		return func() {}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	id := k.nextID
	k.nextID++
	k.subscribers[id] = f
	return func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		delete(k.subscribers, id)
	}
}

// notify calls the subscribers at once and waits for them. One may wait for a member of a KEKSet that hangs.
func (k *Keyring) notify() {
	var told sync.WaitGroup
	k.mu.Lock()
	for _, f := range k.subscribers {
		told.Go(f)
	}
	k.mu.Unlock()
	told.Wait()
}

// watch reloads in the background until Close. It keeps the values of ctx, and not its end.
func (k *Keyring) watch(ctx context.Context, every time.Duration) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(k.closing, cancel) //nolint:contextcheck // ends with Close, not with a call
	var watcher *fsnotify.Watcher
	if w, ok := k.src.src.(watchable); ok {
		var err error
		if watcher, err = watchDir(w.watchPath()); err != nil {
			k.log.WarnContext(ctx, "sealcache: the keyset file is read only at intervals, because it cannot be watched (is a limit of inotify too low?)", "every", every, "error", err)
		}
	}
	k.background.Go(func() {
		defer stop()
		defer cancel()
		if watcher == nil {
			k.watchLoop(ctx, every, nil, nil)
			return
		}
		defer watcher.Close()
		k.watchLoop(ctx, every, watcher.Events, watcher.Errors)
	})
}

func (k *Keyring) watchLoop(ctx context.Context, every time.Duration, events <-chan fsnotify.Event, errs <-chan error) {
	retry := firstRetry
	soon := true // the file may have changed between its first reading and the start of the watch
	timer := time.NewTimer(min(settle, every))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-events:
		case err := <-errs: // an overflow: events were lost
			k.log.WarnContext(ctx, "sealcache: changes of the keyset file may have been missed, so the file is read again", "error", err)
		case <-timer.C:
			soon = false
			loadCtx, cancel := context.WithTimeout(ctx, backgroundTimeout)
			err := k.reload(loadCtx, true)
			cancel()
			if err != nil {
				timer.Reset(min(retry, every))
				retry = min(2*retry, every)
			} else {
				retry = firstRetry
				timer.Reset(every)
			}
			continue
		}
		if !soon {
			soon = true
			timer.Reset(min(settle, every))
		}
	}
}

// watchDir watches the directory of a file, and not the file. A rename over the file, and Kubernetes' swap of the
// symbolic link ..data, change only the directory.
func watchDir(path string) (*fsnotify.Watcher, error) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, err
	}
	if err := w.Add(filepath.Dir(path)); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}
