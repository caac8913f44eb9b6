package redistest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// Pid returns the process id, or 0 while the server is down.
func (s *Server) Pid() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil {
		return 0
	}
	return s.proc.Pid
}

// end sends the process a signal and waits until it has ended.
func (s *Server) end(signal func(*os.Process) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil {
		return nil
	}
	if err := signal(s.proc.Process); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("redistest: send a signal to redis-server: %w", err)
	}
	select {
	case <-s.proc.done:
	case <-time.After(stopTimeout): // a paused process does not react to TERM
		_ = s.proc.Kill()
		<-s.proc.done
	}
	s.proc = nil
	return nil
}

// Kill ends the server as a crash does (SIGKILL). Data that are not on disk are lost.
func (s *Server) Kill() error { return s.end((*os.Process).Kill) }

// Stop ends the server by SIGTERM.
func (s *Server) Stop() error { return s.end(terminate) }

// Restart stops the server if it runs, and starts it on the same port and directory. The server has the data of its
// dump or append-only file: none, unless AppendOnly is set or DumpFiles was called.
func (s *Server) Restart() error {
	if err := s.Stop(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	var err error
	for range portAttempts { // a connection of the old process may hold the port for a moment
		if err = s.start(ctx); err == nil || !s.portTaken() {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(50 * time.Millisecond):
		}
	}
	return err
}

// Pause freezes the process (SIGSTOP). Connections stay open and get no answer, as behind a broken network.
func (s *Server) Pause() error { return s.signal(pause) }

// Resume ends Pause.
func (s *Server) Resume() error { return s.signal(resume) }

func (s *Server) signal(f func(*os.Process) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proc == nil {
		return errors.New("redistest: redis-server is not running, so it cannot be signalled")
	}
	return f(s.proc.Process)
}

// Close kills the server and removes its directory. A second Close does nothing.
func (s *Server) Close() error {
	err := s.Kill()
	for _, release := range s.release {
		release()
	}
	s.release = nil
	return errors.Join(err, os.RemoveAll(s.dir))
}

// DumpFiles makes the server write its dump. It returns the RDB dump and the append-only files, by file name below Dir.
// Dumps are not compressed, so that a search finds values of more than a few bytes. Strings that look like small
// integers are stored as integers.
func (s *Server) DumpFiles(t testing.TB) map[string][]byte {
	t.Helper()
	rdb := redis.NewClient(s.ClientOptions())
	defer func() { _ = rdb.Close() }()
	if err := rdb.Save(context.Background()).Err(); err != nil {
		t.Fatalf("redistest: call SAVE: %v", err)
	}
	files, dir := make(map[string][]byte), os.DirFS(s.dir)
	for _, pattern := range []string{"dump.rdb", "appendonlydir/*", "*.aof"} {
		names, err := fs.Glob(dir, pattern)
		noError(t, err)
		for _, name := range names {
			files[name], err = fs.ReadFile(dir, name)
			noError(t, err)
		}
	}
	return files
}
