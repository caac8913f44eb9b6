//go:build !linux && !darwin

package main

import "time"

// cpuTime is not known here.
func cpuTime() (used time.Duration, known bool) { return 0, false }

// cpuTimeOf is not known here.
func cpuTimeOf(int) (used time.Duration, known bool) { return 0, false }
