//go:build linux || darwin

package main

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// cpuTime returns the processor time of this process, all threads and the garbage collector included.
func cpuTime() (used time.Duration, known bool) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, false
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), true
}

// cpuTimeOf returns the processor time of the main thread of another process. Redis serves its clients on that thread.
// Only Linux reports it in nanoseconds: the first figure of /proc/<pid>/schedstat
// (Documentation/scheduler/sched-stats.rst).
func cpuTimeOf(pid int) (used time.Duration, known bool) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/schedstat")
	if err != nil {
		return 0, false
	}
	first, _, _ := strings.Cut(string(b), " ")
	n, err := strconv.ParseInt(first, 10, 64)
	return time.Duration(n), err == nil && n > 0
}
