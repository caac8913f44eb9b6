package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// control changes a run: migrate.Control or audit.Control.
type control interface {
	Pause()
	Resume()
	SetRate(perSecond float64)
}

// steering shows and changes a run while it runs: by signals, and by a control file.
type steering struct {
	p       *program
	file    string
	control control
	last    atomic.Pointer[progress]
	paused  bool
	done    chan struct{}
	wait    sync.WaitGroup
}

const controlEvery = time.Second

// follow shows the progress of a run, and lets an operator steer it, until done is called.
func (o *outputFlags) follow(p *program, file string, control control) (report func(progress), done func()) {
	show, shown := o.show(p)
	steer := newSteering(p, file, control)
	report = func(state progress) {
		steer.progress(state)
		show(state)
	}
	return report, sync.OnceFunc(func() {
		steer.stop()
		shown()
	})
}

func newSteering(p *program, file string, control control) *steering {
	s := &steering{p: p, file: file, control: control, done: make(chan struct{})}
	signals, release := steeringSignals()
	tick := time.NewTicker(controlEvery)
	said := s.read("")
	s.wait.Go(func() {
		defer release()
		defer tick.Stop()
		for {
			select {
			case <-s.done:
				return
			case <-tick.C:
				said = s.read(said)
			case signal := <-signals:
				s.signal(signal)
			}
		}
	})
	return s
}

func (s *steering) stop() {
	close(s.done)
	s.wait.Wait()
}

func (s *steering) progress(state progress) { s.last.Store(&state) }

// signal shows the state, or pauses and resumes the run.
func (s *steering) signal(signal os.Signal) {
	switch {
	case signal == statusSignal:
		if state := s.last.Load(); state != nil {
			fmt.Fprintln(s.p.stderr, *state)
		} else {
			fmt.Fprintln(s.p.stderr, "starting")
		}
	case s.paused:
		s.paused = false
		s.control.Resume()
		fmt.Fprintln(s.p.stderr, "resumed")
	default:
		s.paused = true
		s.control.Pause()
		fmt.Fprintln(s.p.stderr, "paused (send the signal again to resume)")
	}
}

// declareControl declares --control.
func declareControl(f *flags, to *string) {
	f.StringVar(to, "control", "", "`FILE` that is read every second: \"pause\", \"resume\" or \"rate ENTRIES\", each on one line")
	f.file("control")
}

// readControl reads a control file. Only a regular file is read: another one may block, or never end.
func readControl(path string) ([]byte, error) {
	const most = 4 << 10
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	switch {
	case !info.Mode().IsRegular():
		return nil, errors.New("the path is not a regular file (give a text file)")
	case info.Size() > most:
		return nil, errors.New("the file is larger than 4 KiB (write only lines with \"pause\", \"resume\" or \"rate ENTRIES\")")
	}
	return os.ReadFile(path)
}

// checkControl returns an error before the work if the control file cannot be read as one.
func checkControl(path string) error {
	if path == "" {
		return nil
	}
	if _, err := readControl(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return wrong("--control: %w", err)
	}
	return nil
}

// read applies the control file, unless its content is the same as before.
func (s *steering) read(before string) (now string) {
	if s.file == "" {
		return ""
	}
	data, err := readControl(s.file)
	if err != nil || string(data) == before {
		return before // a missing file changes nothing
	}
	known, unknown := 0, 0
	for line := range strings.Lines(string(data)) {
		switch words := strings.Fields(line); {
		case len(words) == 0:
		case len(words) == 1 && words[0] == "pause":
			s.paused = true
			s.control.Pause()
		case len(words) == 1 && words[0] == "resume":
			s.paused = false
			s.control.Resume()
		case len(words) == 2 && words[0] == "rate":
			if n, err := strconv.ParseFloat(words[1], 64); err == nil && n >= 0 {
				s.control.SetRate(n)
				break
			}
			fallthrough
		default:
			fmt.Fprintln(s.p.stderr, "--control: a line of the file is unknown (allowed: \"pause\", \"resume\", \"rate ENTRIES\")")
			unknown++
			continue
		}
		known++
	}
	if known > 0 || unknown == 0 {
		fmt.Fprintln(s.p.stderr, "--control: the file was applied")
	}
	return string(data)
}
