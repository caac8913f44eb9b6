// Package secretfile contains [Read], which reads a file with keys, a password or a certificate. Read does not wait for a
// named pipe that no program writes.
package secretfile

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// Read reads at most limit bytes. It does not wait until a program opens a named pipe for writing. If a program has the pipe
// open, Read waits until it closes the pipe, or until the deadline of ctx. A read of a regular file cannot be interrupted. So
// callers use abandon.Call, and bound the calls that run.
func Read(ctx context.Context, path string, limit int64) ([]byte, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // the file was only read
	if deadline, ok := ctx.Deadline(); ok {
		_ = file.SetReadDeadline(deadline) // regular files have none
	}
	data, err := io.ReadAll(io.LimitReader(file, limit))
	if err != nil {
		return nil, err
	}
	if info, err := file.Stat(); len(data) == 0 && err == nil && info.Mode()&fs.ModeNamedPipe != 0 {
		return nil, errors.New("the named pipe is empty (first start the program that writes into the pipe)")
	}
	return data, nil
}
