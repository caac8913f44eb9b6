//go:build unix

package main

import (
	"errors"
	"io/fs"
	"os"
	"syscall"

	"github.com/gofrs/flock"
)

// lockOf returns the lock of a file: the file itself. The system releases it when the process ends, however it ends.
func lockOf(path string) *flock.Flock { return flock.New(path, flock.SetFlag(os.O_RDONLY)) }

// lockSuccessor locks a file that is about to take the place of a locked one, so that no other command begins in between.
func lockSuccessor(name string) (unlock func(), err error) {
	lock := lockOf(name)
	if locked, err := lock.TryLock(); err != nil || !locked {
		return nil, errors.Join(errBusy, err)
	}
	return func() { _ = lock.Unlock() }, nil
}

// sameOwner gives a file the owner of another, so that the application that could read the old one can read the new one.
func sameOwner(f *os.File, old fs.FileInfo) error {
	want, ok := old.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if have, ok := info.Sys().(*syscall.Stat_t); ok && have.Uid == want.Uid && have.Gid == want.Gid {
		return nil
	}
	return f.Chown(int(want.Uid), int(want.Gid))
}
