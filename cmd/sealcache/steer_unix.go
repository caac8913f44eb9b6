//go:build unix

package main

import (
	"os"
	"os/signal"
	"syscall"
)

// statusSignal shows the state of a run. SIGUSR2 pauses and resumes it.
const statusSignal = syscall.SIGUSR1

func steeringSignals() (signals <-chan os.Signal, release func()) {
	c := make(chan os.Signal, 8)
	signal.Notify(c, syscall.SIGUSR1, syscall.SIGUSR2)
	return c, func() { signal.Stop(c) }
}
