package asynqjobs

import (
	"bytes"
	"cmp"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hibiken/asynq"

	"github.com/sealcache/sealcache/middleware/internal/asynqwire"
)

// definition is the latest call about the name of a periodic job, in the form that is sealed: its registration or its
// cancellation.
type definition struct {
	Name    string            `json:"name"`
	Spec    string            `json:"spec,omitempty"`
	Type    string            `json:"type,omitempty"`
	Payload []byte            `json:"payload,omitempty"`
	Headers map[string]string `json:"headers,omitempty"`
	Options []storedOption    `json:"options,omitempty"`
	// Anchor is the time of the registration in Unix milliseconds. Ticks come after it.
	Anchor int64 `json:"anchor"`
	// Seed keys the ids of the ticks. Each registration has its own, so that another
	// definition of the same name has other ids.
	Seed []byte `json:"seed"`
	// Sealed is the time of the sealing in Unix milliseconds.
	Sealed int64 `json:"sealed"`
	// Version is set if Anchor is not later than the version of the call before.
	Version int64 `json:"version,omitempty"`
	// Ended reports that the application cancelled the name. Spec and Type are then empty.
	Ended bool `json:"ended,omitempty"`

	ticker ticker
}

// storedOption is an option of asynq that a periodic job may have. Unique and Group are
// refused, because a tick with them may not run exactly once. When asynq refuses an id,
// it leaves the unique lock behind. When asynq aggregates a group, the task of the tick
// is gone.
type storedOption struct {
	Type  asynq.OptionType `json:"type"`
	Int   int64            `json:"int,omitempty"`
	Value string           `json:"value,omitempty"`
}

// newDefinition returns the definition of a job whose first tick comes after anchor.
func newDefinition(name string, when Schedule, t *asynq.Task, opts []asynq.Option, anchor time.Time) (*definition, error) {
	if err := checkScheduleName(name); err != nil {
		return nil, err
	}
	if t == nil || t.Type() == "" {
		return nil, errors.New("asynqjobs: periodic job: the task is nil or has no type")
	}
	d := &definition{
		Name: name, Spec: when.String(), Type: t.Type(), Payload: t.Payload(), Headers: t.Headers(),
		Anchor: anchor.UnixMilli(), Seed: make([]byte, sha256.Size),
	}
	rand.Read(d.Seed)
	all, _, err := checkTask(t, opts) // now, not at each tick
	if err != nil {
		return nil, err
	}
	for _, o := range all {
		if o == nil {
			continue
		}
		s, err := storeOption(o)
		if err != nil {
			return nil, err
		}
		d.Options = append(d.Options, s)
	}
	if err := d.checkTexts(); err != nil {
		return nil, err
	}
	return d, d.parse()
}

// checkScheduleName refuses names that no periodic job can have.
func checkScheduleName(name string) error {
	switch {
	case name == "":
		return errors.New("asynqjobs: periodic job: the name is empty")
	case !utf8.ValidString(name):
		return errors.New("asynqjobs: periodic job: the name is not valid UTF-8")
	default:
		return nil
	}
}

// checkTexts refuses texts that JSON cannot hold. encoding/json would store other texts in their place without an error.
func (d *definition) checkTexts() error {
	switch {
	case !utf8.ValidString(d.Spec):
		return errors.New("asynqjobs: periodic job: the schedule is not valid UTF-8")
	case !utf8.ValidString(d.Type):
		return errors.New("asynqjobs: periodic job: the type of the task is not valid UTF-8")
	}
	for name, value := range d.Headers {
		if !utf8.ValidString(name) || !utf8.ValidString(value) {
			return errors.New("asynqjobs: periodic job: a header of the task is not valid UTF-8 (use base64)")
		}
	}
	for _, o := range d.Options {
		if !utf8.ValidString(o.Value) {
			return errors.New("asynqjobs: periodic job: the name of the queue is not valid UTF-8")
		}
	}
	return nil
}

// newCancellation returns the definition of a job that ended at the time now.
func newCancellation(name string, now time.Time) *definition {
	d := &definition{Name: name, Anchor: now.UnixMilli(), Seed: make([]byte, sha256.Size), Ended: true}
	rand.Read(d.Seed)
	return d
}

// version orders the calls about a name.
func (d *definition) version() int64 { return max(d.Anchor, d.Version) }

// follow makes d later than last, which may be nil.
func (d *definition) follow(last *definition) {
	if last != nil && last.version() >= d.Anchor {
		d.Version = last.version() + 1
	}
}

// compare returns a positive number if d is a later call than other, and 0 if it is the same call.
func (d *definition) compare(other *definition) int {
	byEnd := 0
	if d.Ended != other.Ended {
		byEnd = -1
		if d.Ended {
			byEnd = 1
		}
	}
	return cmp.Or(cmp.Compare(d.version(), other.version()), byEnd, bytes.Compare(d.Seed, other.Seed))
}

// parse sets the ticker.
func (d *definition) parse() error {
	if d.Ended {
		return nil
	}
	var err error
	d.ticker, err = Schedule{d.Spec}.parse(d.anchor())
	return err
}

// sealed returns the time of the sealing.
func (d *definition) sealed() time.Time { return time.UnixMilli(d.Sealed) }

func (d *definition) anchor() time.Time { return time.UnixMilli(d.Anchor) }

// maxTickQueue bounds the name of the queue of a periodic job. It leaves room for the ids of ticks in maxClaimBytes.
const maxTickQueue = 32 << 10

func storeOption(o asynq.Option) (storedOption, error) {
	if err := known(o); err != nil {
		return storedOption{}, err
	}
	s := storedOption{Type: o.Type()}
	var ok bool
	switch v := o.Value().(type) {
	case int:
		ok = s.Type == asynq.MaxRetryOpt
		s.Int = int64(v)
	case string:
		ok = s.Type == asynq.QueueOpt
		s.Value = v
		if ok && (strings.TrimSpace(v) == "" || len(v) > maxTickQueue) { // asynq or the sealing would refuse each tick
			return storedOption{}, fmt.Errorf("asynqjobs: periodic job: the name of the queue is empty or longer than %d bytes", maxTickQueue)
		}
	case time.Duration:
		ok = s.Type == asynq.TimeoutOpt || s.Type == asynq.RetentionOpt
		s.Int = int64(v)
	}
	if !ok {
		return storedOption{}, fmt.Errorf("asynqjobs: periodic job: option %s is not allowed (only MaxRetry, Queue, Timeout, Retention)", o)
	}
	return s, nil
}

// options returns the options of a tick's task. Its id is the id of the tick. The task
// is kept for a while after it has run, so that a delayed scheduler does not enqueue the
// tick again.
func (d *definition) options(tick time.Time) ([]asynq.Option, error) {
	retention := tickRetention
	var opts []asynq.Option
	for _, s := range d.Options {
		switch s.Type {
		case asynq.MaxRetryOpt:
			opts = append(opts, asynq.MaxRetry(int(s.Int)))
		case asynq.QueueOpt:
			opts = append(opts, asynq.Queue(s.Value))
		case asynq.TimeoutOpt:
			opts = append(opts, asynq.Timeout(time.Duration(s.Int)))
		case asynq.RetentionOpt:
			retention = max(retention, time.Duration(s.Int))
		default:
			return nil, fmt.Errorf("asynqjobs: periodic job: a stored option has the unknown type %d (update sealcache)", s.Type)
		}
	}
	return append(opts, asynq.Retention(retention), asynq.TaskID(d.tickID(tick))), nil
}

// tickID returns the id of a tick's task. All schedulers compute the same id, so that
// it is enqueued once. An attacker without the seed cannot tell which job it belongs to.
func (d *definition) tickID(tick time.Time) string {
	m := hmac.New(sha256.New, d.Seed)
	m.Write(binary.BigEndian.AppendUint64([]byte("sealcache.tick.v1"), uint64(tick.UnixMilli())))
	sum := m.Sum(nil)
	return hex.EncodeToString(sum[:4]) + asynqwire.TickIDInfix + base64.RawURLEncoding.EncodeToString(sum[4:16])
}

// queue returns the queue of the job's tasks.
func (d *definition) queue() string {
	queue := defaultQueue
	for _, s := range d.Options {
		if s.Type == asynq.QueueOpt {
			queue = s.Value
		}
	}
	return queue
}

// content returns the fields that make two definitions of one name equal: everything
// that the application gave.
func (d *definition) content() ([]byte, error) {
	b, err := json.Marshal(definition{
		Name: d.Name, Spec: d.Spec, Type: d.Type, Payload: d.Payload, Headers: d.Headers, Options: d.Options,
	})
	if err != nil {
		return nil, fmt.Errorf("asynqjobs: cannot encode a schedule as JSON (report this bug): %w", err)
	}
	return b, nil
}
