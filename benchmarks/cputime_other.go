//go:build !linux && !darwin

package main

import "time"

// cpuTime reports false: this system is not supported.
func cpuTime() (used time.Duration, known bool) { return 0, false }

// cpuTimeOf reports false: this system is not supported.
func cpuTimeOf(int) (used time.Duration, known bool) { return 0, false }
