package asynqjobs

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"time"
	"unsafe"

	"github.com/hibiken/asynq"
)

// bakedOptions returns the options that a task was made with.
//
// asynq keeps them in a field that it does not export, Task.opts, and merges them when the task is enqueued. A sealed task is
// another Task: without these options it would silently lose its queue, its deadline or a MaxRetry(0). No exported call
// returns them, so the field is found by its name, and its type is checked. NewClient and Config prove that this works with
// the release of asynq that is linked.
func bakedOptions(t *asynq.Task) ([]asynq.Option, error) {
	f := reflect.ValueOf(t).Elem().FieldByName("opts")
	if !f.IsValid() || f.Type() != reflect.TypeFor[[]asynq.Option]() {
		return nil, errUnknownAsynq
	}
	// The field is addressable and of exactly this type.
	opts := *(*[]asynq.Option)(unsafe.Pointer(f.UnsafeAddr()))
	return slices.Clone(opts), nil
}

var errUnknownAsynq = errors.New("asynqjobs: this release of asynq is not supported (use the asynq release in sealcache's go.mod)")

// proveBakedOptions fails if bakedOptions does not find what NewTask was given.
func proveBakedOptions() error {
	want := []asynq.Option{asynq.Queue("probe"), asynq.MaxRetry(7)}
	got, err := bakedOptions(asynq.NewTask("probe", nil, want...))
	if err != nil {
		return err
	}
	if !slices.Equal(got, want) {
		return errUnknownAsynq
	}
	return nil
}

// known returns an error for options whose type this release does not know. asynq decides by the concrete type of an
// option and ignores unknown types without an error. An option of a later asynq may carry data that has to be sealed.
func known(o asynq.Option) error {
	for _, same := range [...]asynq.Option{
		asynq.MaxRetry(0), asynq.Queue(""), asynq.Timeout(0), asynq.Deadline(time.Time{}), asynq.Unique(0),
		asynq.ProcessAt(time.Time{}), asynq.ProcessIn(0), asynq.TaskID(""), asynq.Retention(0), asynq.Group(""),
	} {
		if reflect.TypeOf(o) == reflect.TypeOf(same) {
			return nil
		}
	}
	return fmt.Errorf("asynqjobs: the task option %T is unknown (use asynq's options, or update sealcache)", o)
}

// taskOptions are the options that sealing depends on.
type taskOptions struct {
	identity
	unique bool
	hasID  bool
}

// parseOptions reads options as asynq does: the last of conflicting options counts, and nil is ignored.
func parseOptions(opts []asynq.Option) (taskOptions, error) {
	c := taskOptions{identity: identity{queue: defaultQueue}}
	for _, o := range opts {
		if o == nil {
			continue
		}
		if err := known(o); err != nil {
			return taskOptions{}, err
		}
		var ok bool
		switch o.Type() {
		case asynq.QueueOpt:
			c.queue, ok = o.Value().(string)
		case asynq.TaskIDOpt:
			c.id, ok = o.Value().(string)
			c.hasID = true
		case asynq.GroupOpt:
			c.group, ok = o.Value().(string)
		case asynq.UniqueOpt:
			c.unique, ok = true, true
		default:
			ok = true
		}
		if !ok {
			return taskOptions{}, fmt.Errorf("asynqjobs: the option %T has a value of the unexpected type %T (use the options of package asynq)", o, o.Value())
		}
	}
	return c, nil
}

// defaultQueue is asynq's.
const defaultQueue = "default"
