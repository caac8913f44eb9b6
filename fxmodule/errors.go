package fxmodule

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"

	"github.com/sealcache/sealcache/aead"
)

// ErrNoCache says that the Config has no cache of the name that was asked for, or none of the kind.
var ErrNoCache = errors.New("fxmodule: no such cache")

// Part is the part of a cache, or of what jobs stand on, that failed.
type Part string

const (
	// PartKeys: the keys could not be opened, or do not seal or open.
	PartKeys Part = "keys"
	// PartProbe: what the keys sealed was not what it should be.
	PartProbe Part = "probe"
	// PartStore: the store could not be opened, or does not answer.
	PartStore Part = "store"
)

// CacheError says which cache failed, and which part of it: when the graph was built, at start, or in a health check.
// errors.As finds it, errors.Is its cause. Several may be joined.
type CacheError struct {
	Cache string // its name
	Part  Part
	Err   error
}

// Error names the cache, the part and the cause.
func (e *CacheError) Error() string {
	return fmt.Sprintf("fxmodule: cache %q: %s: %v", e.Cache, e.Part, e.Err)
}

// Unwrap returns the cause.
func (e *CacheError) Unwrap() error { return e.Err }

// JobsError says which part of what jobs stand on failed: PartStore is their Redis. errors.As finds it, errors.Is its
// cause.
type JobsError struct {
	Part Part
	Err  error
}

// Error names the part and the cause.
func (e *JobsError) Error() string { return fmt.Sprintf("fxmodule: jobs: %s: %v", e.Part, e.Err) }

// Unwrap returns the cause.
func (e *JobsError) Unwrap() error { return e.Err }

// partOf tells a failed probe from keys that cannot be used.
func partOf(err error) Part {
	for _, keys := range []error{
		aead.ErrKeyServiceUnavailable, aead.ErrUnknownKey, aead.ErrUnauthentic, aead.ErrKeyExhausted, aead.ErrClosed,
	} {
		if errors.Is(err, keys) {
			return PartKeys
		}
	}
	return PartProbe
}

// unquoted is an error whose text leaves out what a setting says: the name of a file or of a variable, in whose place a
// password may stand by mistake.
type unquoted struct {
	text string
	err  error
}

func (e *unquoted) Error() string { return e.text }

func (e *unquoted) Unwrap() error { return e.err }

// unquote takes names of files and sockets out of an error's text, and the name of the variable that source refers to.
func unquote(err error, source string) error {
	text := err.Error()
	var file *fs.PathError
	if errors.As(err, &file) {
		text = strings.ReplaceAll(text, file.Error(), file.Op+": "+file.Err.Error())
	}
	var network *net.OpError
	if errors.As(err, &network) && network.Addr != nil && network.Addr.Network() == "unix" {
		text = strings.ReplaceAll(text, network.Addr.String(), "(socket)")
	}
	if name, ok := strings.CutPrefix(source, "env:"); ok {
		text = strings.ReplaceAll(text, " variable "+name+" ", " variable ")
	}
	if text == err.Error() {
		return err
	}
	return &unquoted{text, err}
}
