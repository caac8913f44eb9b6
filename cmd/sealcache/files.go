package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"syscall"
)

// fileError marks a path that cannot be used as a fault of the configuration.
func fileError(err error) error {
	faults := []error{fs.ErrNotExist, fs.ErrPermission, syscall.ENOTDIR, syscall.ENAMETOOLONG, syscall.ELOOP, syscall.EROFS}
	if slices.ContainsFunc(faults, func(fault error) bool { return errors.Is(err, fault) }) {
		return &statusError{exitUsage, err}
	}
	return err
}

// forFile returns the error of a temporary file with the name of the file whose place it was to take.
func forFile(err error, path string) error {
	var one *fs.PathError
	var two *os.LinkError
	switch {
	case errors.As(err, &one):
		one.Path = path
	case errors.As(err, &two):
		two.Old = path
	}
	return err
}

// openRegular opens a regular file. It does not wait for the other end of a named pipe. A new file is for its owner alone.
func openRegular(path string, flag int) (*os.File, error) {
	irregular := wrong("the path %s is not a regular file", path)
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, irregular
	}
	f, err := os.OpenFile(path, flag|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, fileError(err)
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() { // the path may be another file by now
		_ = f.Close()
		return nil, irregular
	}
	return f, nil
}

// createBeside makes the file that takes the place of another once it is complete.
func createBeside(path string) (*os.File, error) {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp")
	return f, forFile(err, path)
}

// writeAndClose writes data to a file, syncs it to the disk and closes it.
func writeAndClose(f *os.File, data []byte) error {
	_, err := f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// writeBeside writes data to a file next to path, syncs it to the disk, and calls finish with its name. finish moves
// it to its place.
func writeBeside(path string, data []byte, finish func(name string) error) error {
	f, err := createBeside(path)
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if err = writeAndClose(f, data); err == nil {
		err = finish(f.Name())
	}
	if err != nil {
		return forFile(err, path)
	}
	return syncDirectory(filepath.Dir(path))
}

// replaceFile replaces a file as a whole, or leaves it.
func replaceFile(path string, data []byte) error {
	return writeBeside(path, data, func(name string) error { return os.Rename(name, path) })
}

// createFile makes a file as a whole, or not at all. It never replaces a file.
func createFile(path string, data []byte) error {
	err := writeBeside(path, data, func(name string) error {
		err := os.Link(name, path)
		if err == nil || errors.Is(err, fs.ErrExist) {
			return err
		}
		// The file system has no links.
		if _, e := os.Lstat(path); e == nil {
			return fs.ErrExist
		}
		return os.Rename(name, path)
	})
	if errors.Is(err, fs.ErrExist) {
		return errExists(path)
	}
	if err != nil {
		return fileError(fmt.Errorf("make the file: %w", err))
	}
	return nil
}

func errExists(path string) error {
	return wrong("the file %s exists already (choose another path)", path)
}

// replaceLocked replaces a file under its lock. The new one gets the mode and the owner of the old one. If the
// process is killed, FILE.new can remain next to it. The next change removes that file.
//
// The new file is locked before it takes the place of the old one. finish is called under that lock.
func replaceLocked(path string, old fs.FileInfo, before, after []byte, finish func() error) (err error) {
	defer func() { err = forFile(err, path) }()
	name := path + ".new"
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fileError(err)
	}
	renamed := false
	defer func() {
		_ = f.Close()
		if !renamed {
			_ = os.Remove(name)
		}
	}()
	if err := f.Chmod(old.Mode().Perm()); err != nil {
		return err
	}
	if err := sameOwner(f, old); err != nil {
		return fmt.Errorf("the keyset was not changed: its file would get another owner (run as its owner): %w", forFile(err, path))
	}
	if err := writeAndClose(f, after); err != nil {
		return err
	}
	if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, before) {
		return errors.New("the keyset was not changed, because another program has just changed its file (try again)")
	}
	unlock, err := lockSuccessor(name)
	if err != nil {
		return err
	}
	defer unlock()
	if err := os.Rename(name, path); err != nil {
		return err
	}
	renamed = true
	if err := syncDirectory(filepath.Dir(path)); err != nil {
		return fmt.Errorf("%w: %w", errTimesNotSaved, err) // the keyset was changed
	}
	return finish()
}

// syncDirectory makes a rename durable.
func syncDirectory(path string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
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

// writable returns an error if a file cannot be written.
func writable(flag, path string) error {
	if path == "" {
		return nil
	}
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return wrong("--%s: %s is not a regular file", flag, path)
	}
	f, err := createBeside(path)
	if err != nil {
		return wrong("--%s: %w", flag, err)
	}
	_ = f.Close()
	if err := os.Remove(f.Name()); err != nil {
		return wrong("--%s: %w", flag, forFile(err, path))
	}
	return nil
}

// creatable returns an error if a file exists or cannot be made.
func creatable(flag, path string) error {
	if err := writable(flag, path); err != nil || path == "" {
		return err
	}
	if _, err := os.Lstat(path); err == nil {
		return errExists(path)
	}
	return nil
}

// reportWritable returns an error if a report cannot be written. It replaces a file only if the file is empty or an
// earlier report of the command: a mistyped path must not destroy a keyset.
func reportWritable(flag, path string, earlier func(beginning []byte) bool) error {
	if err := writable(flag, path); err != nil || path == "" {
		return err
	}
	beginning, err := readBeginning(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return wrong("--%s: %w", flag, err)
	case len(beginning) > 0 && !earlier(beginning):
		return wrong("--%s: %s exists and is not a report of this command (choose another path)", flag, path)
	}
	return nil
}

// samePath reports whether two flags name the same file. The file need not exist. Links are not followed.
func samePath(a, b string) bool {
	if a == "" || b == "" {
		return false
	}
	one, err := filepath.Abs(a)
	other, err2 := filepath.Abs(b)
	return err == nil && err2 == nil && one == other
}

// readBeginning returns the first bytes of a file.
func readBeginning(path string) ([]byte, error) {
	f, err := openRegular(path, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, 512))
}

// reportOf matches the beginning of a JSON report, with the name of its command.
var reportOf = regexp.MustCompile(`^\{\s*"schema": \d+,\s*"command": "([a-z ]+)"`)

// isReport returns a function that reports whether a file begins as a JSON report of a command.
func isReport(command string) func(beginning []byte) bool {
	return func(beginning []byte) bool {
		m := reportOf.FindSubmatch(beginning)
		return m != nil && string(m[1]) == command
	}
}
