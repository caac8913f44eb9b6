//go:build !unix

package redistest

import (
	"errors"
	"os"
)

func kill(pid int) error {
	p, err := os.FindProcess(pid)
	if err != nil {
		return err
	}
	return p.Kill()
}

func terminate(pid int) error { return kill(pid) }

var errNoSignal = errors.New("redistest: this operating system cannot pause a process")

func pause(int) error  { return errNoSignal }
func resume(int) error { return errNoSignal }
