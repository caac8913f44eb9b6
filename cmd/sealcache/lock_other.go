//go:build !unix

package main

import (
	"io/fs"
	"os"

	"github.com/gofrs/flock"
)

// lockOf returns the lock of a file. Other systems do not let a locked file be replaced, so the lock is a file beside it.
func lockOf(path string) *flock.Flock { return flock.New(path + ".lock") }

func sameOwner(*os.File, fs.FileInfo) error { return nil }

// lockSuccessor does nothing: the lock is a separate file, and stays.
func lockSuccessor(string) (unlock func(), err error) { return func() {}, nil }
