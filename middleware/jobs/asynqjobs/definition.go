package asynqjobs

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hibiken/asynq"
)

// definition is a periodic job, as it is sealed.
type definition struct {
	Name    string            `json:"name"`
	Spec    string            `json:"spec"`
	Type    string            `json:"type"`
	Payload []byte            `json:"payload,omitempty"`
	Headers map[string]string `json:"headers,omitempty"`
	Options []storedOption    `json:"options,omitempty"`
	// Anchor is when the job was registered, in Unix milliseconds: ticks come after
	// it.
	Anchor int64 `json:"anchor"`
	// Seed keys the ids of the ticks. It changes with the definition, so that
	// another definition of the same name has other ids.
	Seed []byte `json:"seed"`
	// Sealed is when it was sealed, in Unix milliseconds.
	Sealed int64 `json:"sealed"`

	ticker ticker
}

// storedOption is an option of asynq that a periodic job may have. Unique and
// Group are none: asynq leaves a unique lock behind when an id is refused, and the
// task of a group is gone when the group is aggregated, so that neither can be
// relied upon to run a tick once.
type storedOption struct {
	Type  asynq.OptionType `json:"type"`
	Int   int64            `json:"int,omitempty"`
	Value string           `json:"value,omitempty"`
}

// newDefinition defines a job whose first tick comes after anchor.
func newDefinition(name string, when Schedule, t *asynq.Task, opts []asynq.Option, anchor time.Time) (*definition, error) {
	if name == "" {
		return nil, errors.New("asynqjobs: a periodic job needs a name")
	}
	if t == nil || t.Type() == "" {
		return nil, errors.New("asynqjobs: a periodic job needs a task with a type")
	}
	d := &definition{
		Name: name, Spec: when.String(), Type: t.Type(), Payload: t.Payload(), Headers: t.Headers(),
		Anchor: anchor.UnixMilli(), Seed: make([]byte, sha256.Size),
	}
	rand.Read(d.Seed)
	baked, err := bakedOptions(t)
	if err != nil {
		return nil, err
	}
	for _, o := range slices.Concat(baked, opts) {
		if o == nil {
			continue
		}
		s, err := storeOption(o)
		if err != nil {
			return nil, err
		}
		d.Options = append(d.Options, s)
	}
	return d, d.parse()
}

// parse makes the definition ready to tick.
func (d *definition) parse() error {
	var err error
	d.ticker, err = Schedule{d.Spec}.parse(d.anchor())
	return err
}

// sealed is when the definition was sealed.
func (d *definition) sealed() time.Time { return time.UnixMilli(d.Sealed) }

func (d *definition) anchor() time.Time { return time.UnixMilli(d.Anchor) }

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
	case time.Duration:
		ok = s.Type == asynq.TimeoutOpt || s.Type == asynq.RetentionOpt
		s.Int = int64(v)
	}
	if !ok {
		return storedOption{}, fmt.Errorf("asynqjobs: a periodic job cannot have option %s: it takes MaxRetry, Queue, Timeout and Retention", o)
	}
	return s, nil
}

// options returns the options of a tick's task. Its id is that of the tick, and it
// is kept for a while after it has run, so that a scheduler that was held up does
// not enqueue the tick again.
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
			return nil, fmt.Errorf("asynqjobs: a periodic job has an option of type %d, which this release does not know", s.Type)
		}
	}
	return append(opts, asynq.Retention(retention), asynq.TaskID(d.tickID(tick))), nil
}

// tickID is the id of a tick's task. Schedulers find the same id and enqueue it
// once; who does not know the seed cannot tell which job it is.
func (d *definition) tickID(tick time.Time) string {
	m := hmac.New(sha256.New, d.Seed)
	m.Write(binary.BigEndian.AppendUint64([]byte("sealcache.tick.v1"), uint64(tick.UnixMilli())))
	return "tick-" + base64.RawURLEncoding.EncodeToString(m.Sum(nil)[:16])
}

// queue is that of the job's tasks.
func (d *definition) queue() string {
	queue := defaultQueue
	for _, s := range d.Options {
		if s.Type == asynq.QueueOpt {
			queue = s.Value
		}
	}
	return queue
}

// content is what makes two definitions of one name the same: everything that an
// application says of it.
func (d *definition) content() ([]byte, error) {
	b, err := json.Marshal(definition{
		Name: d.Name, Spec: d.Spec, Type: d.Type, Payload: d.Payload, Headers: d.Headers, Options: d.Options,
	})
	if err != nil {
		return nil, fmt.Errorf("asynqjobs: schedule: %w", err)
	}
	return b, nil
}
