//go:build unix && !solaris && !illumos && !aix

package migrate

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// lockCheckpoint locks the file next to a checkpoint, because each write replaces the checkpoint itself. The system releases the
// lock when the process ends, however it ends. A file system without locks does not stop a run.
func lockCheckpoint(path string) (unlock func(), err error) {
	unlock = func() {}
	name := path + ".lock"
	for {
		f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|syscall.O_NONBLOCK, 0o600)
		if err != nil {
			return unlock, atPath(path, err)
		}
		switch err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); {
		case errors.Is(err, syscall.EWOULDBLOCK):
			_ = f.Close()
			return unlock, fmt.Errorf("%w: another run uses it now (wait until that run ends)", ErrCheckpoint)
		case errors.Is(err, syscall.EINTR):
			_ = f.Close()
			continue
		case err != nil && !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, syscall.ENOLCK):
			_ = f.Close()
			return unlock, &os.PathError{Op: "flock", Path: path, Err: err}
		}
		// The run that had the lock before may have removed the file since it was opened here.
		locked, err1 := f.Stat()
		present, err2 := os.Stat(name)
		if err1 == nil && err2 == nil && os.SameFile(locked, present) {
			return func() {
				_ = os.Remove(name) // first, so that no other run takes a file that is about to go
				_ = f.Close()
			}, nil
		}
		_ = f.Close()
	}
}
