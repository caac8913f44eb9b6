//go:build !unix

package redistest

import (
	"errors"
	"os"
)

func terminate(p *os.Process) error { return p.Kill() }

var errNoSignal = errors.New("redistest: this operating system cannot pause a process")

func pause(*os.Process) error  { return errNoSignal }
func resume(*os.Process) error { return errNoSignal }
