//go:build !linux

package matrix

import "syscall"

func dieWithParent() *syscall.SysProcAttr { return nil }
