package asynqjobs

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"unsafe"

	"github.com/hibiken/asynq"
)

// bakedOptions returns the options that a task was made with.
//
// asynq keeps them in a field that it does not export, Task.opts, and merges them
// when the task is enqueued. A sealed task is another Task, so its options must
// come along, or a queue, a deadline or a MaxRetry(0) that the application asked
// for would be lost without a word. There is no other way to read them; so this
// looks for the field by name, checks its type, and is an error otherwise. NewClient
// and Config prove that it works with the asynq that is linked.
func bakedOptions(t *asynq.Task) ([]asynq.Option, error) {
	f := reflect.ValueOf(t).Elem().FieldByName("opts")
	if !f.IsValid() || f.Type() != reflect.TypeFor[[]asynq.Option]() {
		return nil, errUnknownAsynq
	}
	// The field is addressable and of exactly this type.
	opts := *(*[]asynq.Option)(unsafe.Pointer(f.UnsafeAddr()))
	return slices.Clone(opts), nil
}

var errUnknownAsynq = errors.New("asynqjobs: this release of asynq keeps the options of a task in another way, and they must not be lost: use a release of sealcache that knows it")

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

// chosen is what options say of what sealing must know.
type chosen struct {
	place
	unique bool
	hasID  bool
}

// known refuses what is no option of asynq's own. asynq goes by the concrete type and
// ignores others without a word; sealed for a queue that asynq does not put it into,
// the task would never open.
func known(o asynq.Option) error {
	if reflect.TypeOf(o).PkgPath() != reflect.TypeFor[asynq.Task]().PkgPath() {
		return fmt.Errorf("asynqjobs: an option of type %T: asynq knows only its own", o)
	}
	return nil
}

// choose reads options as asynq does: of conflicting ones the last counts.
func choose(opts []asynq.Option) (chosen, error) {
	c := chosen{place: place{queue: defaultQueue}}
	for _, o := range opts {
		if o == nil {
			continue
		}
		if err := known(o); err != nil {
			return chosen{}, err
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
			return chosen{}, fmt.Errorf("asynqjobs: option %s has a value of type %T", o, o.Value())
		}
	}
	return c, nil
}

// defaultQueue is asynq's.
const defaultQueue = "default"
