package rediswalk

import (
	"context"
	"errors"
	"fmt"
	"time"
	"unsafe"

	"github.com/redis/go-redis/v9"

	"github.com/sealcache/sealcache/internal/rediscmd"
	"github.com/sealcache/sealcache/internal/rediserr"
)

const (
	// GroupBytes bounds the values that a worker holds at a time, unless one alone is larger.
	GroupBytes = 1 << 20
	// readNames is how many values one MGET reads. It occupies Redis for some ten microseconds.
	readNames = 100
)

// Lasting returns the same servers for steps that a run completes although its context has ended. Each pipeline may take as long as
// within then. One that begins before the end of the context may take as long as a batch is repeated. The client obeys that if it sets
// ContextTimeoutEnabled. Otherwise its ReadTimeout bounds each pipeline.
func (s *Servers) Lasting(within time.Duration) *Servers {
	other := *s
	other.within = within
	return &other
}

// Pipelined runs the commands that fill adds to a pipeline. Every command holds its own error. The returned error
// means that the pipeline as a whole failed.
func (s *Servers) Pipelined(ctx context.Context, fill func(p redis.Pipeliner)) error {
	if within := s.within; within > 0 {
		if ctx.Err() == nil { // a read that has begun ends at the deadline, not when a context is cancelled
			within = max(within, retryFor)
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), within)
		defer cancel()
	}
	p := s.Client.Pipeline()
	fill(p)
	cmds, refused := rediscmd.Exec(ctx, p)
	if refused != nil {
		return CallError("Redis", refused)
	}
	for _, c := range cmds {
		var reply redis.Error
		if err := c.Err(); err != nil && !errors.As(err, &reply) {
			return CallError("Redis", err)
		}
	}
	return nil
}

// CallError is the error of a caller that cannot do without the reply to a command.
func CallError(command string, err error) error {
	return fmt.Errorf("cannot call %s: %w", command, rediserr.Wrap(err))
}

// Each adds one command for each name to a pipeline, and runs it. Every command holds its own error. The returned error means
// that the pipeline as a whole failed. Without names there is no pipeline.
func Each[C redis.Cmder](ctx context.Context, s *Servers, names []string, command func(p redis.Pipeliner, name string) C) ([]C, error) {
	if len(names) == 0 {
		return nil, nil
	}
	cmds := make([]C, len(names))
	err := s.Pipelined(ctx, func(p redis.Pipeliner) {
		for i, name := range names {
			cmds[i] = command(p, name)
		}
	})
	return cmds, err
}

// Kinds returns the types of entries, as TYPE names them.
func (s *Servers) Kinds(ctx context.Context, names []string) ([]string, error) {
	cmds, err := Each(ctx, s, names, func(p redis.Pipeliner, name string) *redis.StatusCmd { return p.Type(ctx, name) })
	if err != nil || len(cmds) == 0 {
		return nil, err
	}
	kinds := make([]string, len(names))
	for i, cmd := range cmds {
		if kinds[i], err = cmd.Result(); err != nil {
			return nil, CallError("TYPE", err)
		}
	}
	return kinds, nil
}

// Read returns the values of entries, nil for those that do not exist or are not strings. The values must not be changed.
func (s *Servers) Read(ctx context.Context, names []string) ([][]byte, error) {
	values := make([][]byte, len(names))
	if s.cluster != nil {
		cmds, err := Each(ctx, s, names, func(p redis.Pipeliner, name string) *redis.StringCmd { return p.Get(ctx, name) })
		if err != nil {
			return nil, err
		}
		for i, cmd := range cmds {
			if values[i], err = valueOf(cmd); err != nil {
				return nil, CallError("GET", err)
			}
		}
		return values, nil
	}
	var cmds []*redis.SliceCmd
	err := s.Pipelined(ctx, func(p redis.Pipeliner) {
		for start := 0; start < len(names); start += readNames {
			cmds = append(cmds, p.MGet(ctx, names[start:min(start+readNames, len(names))]...))
		}
	})
	if err != nil {
		return nil, err
	}
	for n, cmd := range cmds {
		part, err := cmd.Result()
		if err != nil {
			return nil, CallError("MGET", err)
		}
		of := values[n*readNames : min((n+1)*readNames, len(values))]
		if len(part) != len(of) {
			return nil, fmt.Errorf("MGET returned %d values for %d keys", len(part), len(of))
		}
		for i, v := range part {
			switch v := v.(type) {
			case nil:
			case string:
				if of[i] = BytesOf(v); of[i] == nil {
					of[i] = []byte{}
				}
			case error: // Envoy sends a GET for each key, and returns each error in the place of the value
				if rediserr.Code(v) != "WRONGTYPE" {
					return nil, CallError("MGET", v)
				}
			default:
				return nil, fmt.Errorf("MGET returned a value of the type %T", v)
			}
		}
	}
	return values, nil
}

// valueOf returns the reply of a GET, nil for an entry that does not exist or is not a string. The value must not be changed.
func valueOf(cmd *redis.StringCmd) ([]byte, error) {
	text, err := cmd.Result()
	switch {
	case errors.Is(err, redis.Nil), rediserr.Code(err) == "WRONGTYPE":
		return nil, nil
	case err == nil && text == "":
		return []byte{}, nil
	}
	return BytesOf(text), err
}

// Groups cuts n entries into ranges whose values fit into GroupBytes, and calls f with the limits of each.
func Groups(n int, size func(i int) int64, f func(from, to int) error) error {
	start, bytes := 0, int64(0)
	for i := range n {
		if i > start && bytes+size(i) > GroupBytes {
			if err := f(start, i); err != nil {
				return err
			}
			start, bytes = i, 0
		}
		bytes += size(i)
	}
	if start < n {
		return f(start, n)
	}
	return nil
}

// BytesOf returns the bytes of s, which must not be changed.
func BytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }
