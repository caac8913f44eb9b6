package main

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"runtime"
	"strings"
)

// Machine describes the machine of a run. Ratios of two machines may differ.
type Machine struct {
	Go     string `json:"go"`
	System string `json:"system"`
	CPU    string `json:"cpu,omitempty"`
	CPUs   int    `json:"cpus"`
	Redis  string `json:"redis,omitempty"`
	// Load is the load average of the last minute of the run, where the system reports it.
	Load string `json:"load,omitempty"`
}

func describeMachine(ctx context.Context) Machine {
	m := Machine{Go: runtime.Version(), System: runtime.GOOS + "/" + runtime.GOARCH, CPUs: runtime.GOMAXPROCS(0), CPU: cpuModel()}
	if out, err := exec.CommandContext(ctx, "redis-server", "--version").Output(); err == nil {
		if _, rest, ok := strings.Cut(string(out), "v="); ok {
			m.Redis, _, _ = strings.Cut(rest, " ")
		}
	}
	if b, err := os.ReadFile("/proc/loadavg"); err == nil {
		m.Load, _, _ = strings.Cut(string(b), " ")
	}
	return m
}

// cpuModel returns the model of the processor, or "" if /proc/cpuinfo does not name it.
func cpuModel() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return ""
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if name, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
