package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// schema is the version of the form of all JSON reports. It grows when a field is removed or changes its meaning.
const schema = 1

// header is the common beginning of every JSON report.
type header struct {
	Schema   int       `json:"schema"`
	Command  string    `json:"command"`
	Server   string    `json:"server,omitempty"`
	Database *int      `json:"database,omitempty"`
	Keyset   []keyInfo `json:"keyset,omitempty"` // if the keys are in one

	OldKeyset []keyInfo `json:"old_keyset,omitempty"` // of --old-kek, if those keys are in one
}

func newHeader(f *flags) header {
	return header{Schema: schema, Command: commandOf(f)}
}

// commandOf returns the name of a command in its reports.
func commandOf(f *flags) string { return strings.TrimPrefix(f.cmd.CommandPath(), "sealcache ") }

// at completes the header of a command that works on Redis.
func (h header) at(r *redisFlag, client redis.UniversalClient, keys []keyInfo) header {
	server, database := r.server(client)
	h.Server, h.Database, h.Keyset = server, &database, keys
	return h
}

// String describes the header in a text report.
func (h header) String() string {
	s := "server " + h.place()
	if k := primaryOf(h.Keyset); k.Primary {
		s += fmt.Sprintf(", primary key %d", k.ID)
	}
	return s
}

// place names the server and the database.
func (h header) place() string {
	if h.Database == nil {
		return h.Server
	}
	return fmt.Sprintf("%s, database %d", h.Server, *h.Database)
}

// outputFlags select the form and the place of the output.
type outputFlags struct {
	json             bool
	report, progress string
}

func (o *outputFlags) declare(f *flags) {
	f.BoolVar(&o.json, "json", false, jsonUse+" instead of text")
	f.StringVar(&o.report, "report", "", "write the report as JSON to this `FILE`, too")
	f.choice(&o.progress, "progress", "how to show progress; auto is a bar on a terminal and lines elsewhere, json is one JSON object per line", "auto", "bar", "lines", "json", "none")
	f.file("report")
}

// check returns an error before the work if the report could not be written after it.
func (o *outputFlags) check(f *flags) error {
	return reportWritable("report", o.report, isReport(commandOf(f)))
}

// every is how often progress is shown.
func (o *outputFlags) every() time.Duration {
	switch {
	case o.bar():
		return 200 * time.Millisecond
	case o.progress == "json":
		return time.Second
	default:
		return 5 * time.Second
	}
}

func (o *outputFlags) bar() bool {
	return o.progress == "bar" || o.progress == "auto" && term.IsTerminal(int(os.Stderr.Fd()))
}

// write prints the report. It is printed even if the file cannot be written.
func (o *outputFlags) write(p *program, h header, report any, text func(io.Writer) error) error {
	data, err := merge(h, report)
	if err != nil {
		return err
	}
	var errs []error
	if o.json {
		_, err = p.stdout.Write(data)
		errs = append(errs, err)
	} else {
		_, err = fmt.Fprintln(p.stdout, h)
		errs = append(errs, err, text(flagWriter{p.stdout}))
	}
	if o.report != "" {
		if err := replaceFile(o.report, data); err != nil {
			errs = append(errs, fmt.Errorf("cannot write the file of the report: %w", err))
		}
	}
	return errors.Join(errs...)
}

// merge returns the JSON object that has the fields of both. The first wins.
func merge(begin, report any) ([]byte, error) {
	first, err := json.Marshal(begin)
	if err != nil {
		return nil, err
	}
	second, err := json.Marshal(report)
	if err != nil {
		return nil, err
	}
	have := map[string]json.RawMessage{}
	if err := json.Unmarshal(first, &have); err != nil {
		return nil, err
	}
	all := first[:len(first)-1]
	d := json.NewDecoder(bytes.NewReader(second))
	_, err = d.Token()
	for err == nil && d.More() {
		var name json.Token
		var value json.RawMessage
		if name, err = d.Token(); err == nil {
			err = d.Decode(&value)
		}
		if _, twice := have[fmt.Sprint(name)]; !twice {
			all = fmt.Appendf(all, ",%q:%s", name, value)
		}
	}
	if err != nil {
		return nil, err
	}
	return indent(json.RawMessage(append(all, '}')))
}

func indent(v any) ([]byte, error) {
	data, err := json.MarshalIndent(v, "", "\t")
	return append(data, '\n'), err
}

func writeJSON(w io.Writer, v any) error {
	data, err := indent(v)
	if err == nil {
		_, err = w.Write(data)
	}
	return err
}

// progress is the state of a long command.
type progress struct {
	Command   string   `json:"command"`
	Phase     string   `json:"phase,omitempty"`
	Paused    []string `json:"paused,omitempty"` // the reasons
	Fraction  float64  `json:"fraction"`
	Seen      int64    `json:"seen"`
	Written   *int64   `json:"written,omitempty"`
	Plaintext *int64   `json:"plaintext,omitempty"`
	PerSecond float64  `json:"per_second"`
	Elapsed   float64  `json:"elapsed_seconds"`
	Remaining float64  `json:"remaining_seconds,omitempty"`
	final     bool
}

// String is the state as a line of text.
func (s progress) String() string {
	return fmt.Sprintf("%s: %.1f%%, %s", s.Command, 100*s.Fraction, s.counts())
}

func (s progress) counts() string {
	text := fmt.Sprintf("%d seen", s.Seen)
	if s.Written != nil {
		text += fmt.Sprintf(", %d written", *s.Written)
	}
	if s.Plaintext != nil {
		text += fmt.Sprintf(", %d plaintext", *s.Plaintext)
	}
	text += fmt.Sprintf(", %.0f/s", s.PerSecond)
	if s.Remaining > 0 {
		text += ", " + (time.Duration(s.Remaining) * time.Second).String() + " left"
	}
	if len(s.Paused) > 0 {
		text += ", paused: " + strings.Join(s.Paused, ", ")
	}
	if s.Phase != "" {
		text += " (" + s.Phase + ")"
	}
	return text
}

// show returns a function that shows progress, and one that ends it.
func (o *outputFlags) show(p *program) (show func(progress), done func()) {
	shown, done := o.shower(p)
	last := -math.MaxFloat64
	return func(s progress) {
		if s.final || s.Elapsed-last >= o.every().Seconds() {
			last = s.Elapsed
			shown(s)
		}
	}, done
}

func (o *outputFlags) shower(p *program) (show func(progress), done func()) {
	switch {
	case o.progress == "none":
		return func(progress) {}, func() {}
	case o.progress == "json":
		encoder := json.NewEncoder(p.stderr)
		return func(s progress) {
			_ = encoder.Encode(struct {
				Schema int `json:"schema"`
				progress
			}{schema, s})
		}, func() {}
	case o.bar():
		const steps = 10000
		bar := progressbar.NewOptions(steps,
			progressbar.OptionSetWriter(p.stderr), progressbar.OptionFullWidth(),
			progressbar.OptionSetPredictTime(false), progressbar.OptionShowElapsedTimeOnFinish())
		return func(s progress) {
				bar.Describe(s.Command + ": " + s.counts())
				_ = bar.Set(int(s.Fraction * steps))
			}, func() {
				_ = bar.Exit()
				fmt.Fprintln(p.stderr)
			}
	default:
		return func(s progress) {
			if !s.final { // the report follows
				fmt.Fprintln(p.stderr, s)
			}
		}, func() {}
	}
}
