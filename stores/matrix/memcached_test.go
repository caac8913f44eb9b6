package matrix

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/bradfitz/gomemcache/memcache"
)

// startMemcached starts a memcached process that listens on its own socket, and returns the socket's path.
func startMemcached(t *testing.T) string {
	t.Helper()
	socket, _ := startMemcachedToStop(t)
	return socket
}

// startMemcachedToStop is startMemcached for a test that stops the process.
func startMemcachedToStop(t *testing.T) (socket string, stop func()) {
	t.Helper()
	binary, err := exec.LookPath("memcached")
	if err != nil {
		t.Fatalf("%v: install it, as with apt-get install memcached or brew install memcached", err)
	}
	dir, err := os.MkdirTemp("", "memcached") //nolint:usetesting // a socket's path has about a hundred bytes at most
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	socket = filepath.Join(dir, "socket")
	args := []string{"-s", socket, "-m", "64", "-t", "2"}
	if os.Geteuid() == 0 {
		// As root, memcached changes to another user, who must be able to create the socket.
		if err := os.Chmod(dir, 0o777); err != nil {
			t.Fatal(err)
		}
		args = append(args, "-u", "nobody", "-a", "0777")
	}
	var output bytes.Buffer
	cmd := exec.Command(binary, args...)
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.SysProcAttr = dieWithParent()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(exited)
	}()
	stop = func() {
		_ = cmd.Process.Kill()
		<-exited
	}
	t.Cleanup(stop)
	client := memcache.New(socket)
	defer func() { _ = client.Close() }()
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if err = client.Ping(); err == nil {
			return socket, stop
		}
		select {
		case <-exited:
			t.Fatalf("memcached exited: %s", output.Bytes())
		default:
		}
		if time.Now().After(end) {
			t.Fatalf("memcached does not answer: %v", err)
		}
	}
}
