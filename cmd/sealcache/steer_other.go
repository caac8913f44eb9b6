//go:build !unix

package main

import (
	"os"
	"syscall"
)

// statusSignal is unused: this system has no signals for users.
const statusSignal = syscall.Signal(0)

func steeringSignals() (signals <-chan os.Signal, release func()) { return nil, func() {} }
