package jobs

import (
	"fmt"
	"strings"

	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// Kind is the part of a job that is sealed. A value of one kind never opens as another.
type Kind int

// The kinds. The zero value is a payload.
const (
	Payload  Kind = iota // the handler's input
	Result               // the handler's output
	Failure              // the text of an error or panic
	Schedule             // the definition of a periodic job
)

func (k Kind) String() string {
	w, err := k.wire()
	if err != nil {
		return fmt.Sprintf("kind %d", int(k))
	}
	return w.String()
}

func (k Kind) wire() (wire.Kind, error) {
	switch k {
	case Payload:
		return wire.JobPayload, nil
	case Result:
		return wire.JobResult, nil
	case Failure:
		return wire.JobFailure, nil
	case Schedule:
		return wire.Schedule, nil
	default:
		return 0, fmt.Errorf("jobs: the field Kind of the Meta is %d, which is unknown (use a constant such as jobs.Payload)", int(k))
	}
}

// Meta is the context to which a sealed value is bound. Empty fields are not bound.
// Type, Queue and ID are the names as the queue's store shows them.
type Meta struct {
	Type  string
	Queue string
	ID    string
	Kind  Kind
}

// names returns the names that m binds.
func (m Meta) names() Binding {
	var b Binding
	if m.Type != "" {
		b |= BindType
	}
	if m.Queue != "" {
		b |= BindQueue
	}
	if m.ID != "" {
		b |= BindID
	}
	return b
}

// Binding is a set of names that a sealed value is bound to.
type Binding int

// The names, to be combined with |.
const (
	BindType  = Binding(wire.BoundType)
	BindQueue = Binding(wire.BoundQueue)
	BindID    = Binding(wire.BoundID)
)

func (b Binding) String() string {
	var names []string
	for _, n := range []struct {
		b    Binding
		name string
	}{{BindType, "type"}, {BindQueue, "queue"}, {BindID, "id"}} {
		if b&n.b != 0 {
			names = append(names, n.name)
		}
	}
	if len(names) == 0 {
		return "nothing"
	}
	return strings.Join(names, ", ")
}

// header returns the header of a value bound to b.
func header(k wire.Kind, b Binding) wire.Header {
	h := wire.Header{Kind: k, Type: wire.Bytes}
	if b != 0 {
		h.Flags |= wire.Bound
		h.Names = wire.Names(b)
	}
	return h
}

// bound returns the names of m for the associated data, those outside b empty.
func (m Meta) bound(b Binding) [3]string {
	names := [...]string{m.Type, m.Queue, m.ID}
	for i, n := range [...]Binding{BindType, BindQueue, BindID} {
		if b&n == 0 {
			names[i] = ""
		}
	}
	return names
}
