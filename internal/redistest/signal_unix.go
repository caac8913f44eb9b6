//go:build unix

package redistest

import "syscall"

func kill(pid int) error      { return syscall.Kill(pid, syscall.SIGKILL) }
func terminate(pid int) error { return syscall.Kill(pid, syscall.SIGTERM) }
func pause(pid int) error     { return syscall.Kill(pid, syscall.SIGSTOP) }
func resume(pid int) error    { return syscall.Kill(pid, syscall.SIGCONT) }
