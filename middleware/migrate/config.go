package migrate

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/middleware/internal/cachevalue"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// Operation is what Run does with the values.
type Operation int

const (
	// Seal seals values in clear. In place it leaves sealed ones alone, under whatever key; with Config.To they are
	// opened and sealed for their new names.
	Seal Operation = iota + 1
	// Reseal seals anew what is sealed, but not under the key that Config.Keys seals under now. Values in clear are left
	// alone and counted.
	Reseal
	// Unseal opens what is sealed and writes it in clear, in the form in which middleware.WritePlaintext would.
	Unseal
)

func (o Operation) String() string {
	switch o {
	case Seal:
		return "seal"
	case Reseal:
		return "reseal"
	case Unseal:
		return "unseal"
	default:
		return fmt.Sprintf("operation %d", int(o))
	}
}

// ValueType is the type that Seal gives to values in clear.
type ValueType string

const (
	AsBytes    ValueType = "bytes"    // []byte; the default
	AsString   ValueType = "string"   // for cache.New[string]
	AsJSON     ValueType = "json"     // for a store with middleware.JSON; what is not JSON is refused
	AsMsgPack  ValueType = "msgpack"  // for a store with middleware.MsgPack
	AsProtobuf ValueType = "protobuf" // for a store with middleware.Proto
)

func (t ValueType) wire() (wire.Type, error) {
	switch t {
	case "", AsBytes:
		return wire.Bytes, nil
	case AsString:
		return wire.String, nil
	case AsJSON:
		return wire.JSON, nil
	case AsMsgPack:
		return wire.MsgPack, nil
	case AsProtobuf:
		return wire.Protobuf, nil
	default:
		return 0, fmt.Errorf("unknown type of values %q: there are bytes, string, json, msgpack and protobuf", string(t))
	}
}

// Space is a part of the names in Redis.
type Space struct {
	// Namespace is that of the application's store (middleware.WithNamespace). Its entries are stored under names that
	// begin with it and a colon, and their values are bound to it. Empty is none.
	Namespace string
	// Prefix, taken literally, narrows it to keys that begin with it: keys as the application gives them, without the
	// namespace. Empty is all.
	Prefix string
}

// stored is what the stored names of the space begin with.
func (s Space) stored() string { return s.namespace() + s.Prefix }

func (s Space) namespace() string {
	if s.Namespace == "" {
		return ""
	}
	return s.Namespace + ":"
}

func (s Space) check() error {
	if s.Namespace == "" {
		return nil
	}
	return middleware.CheckNamespace(s.Namespace)
}

// Config says what Run does. The zero value of a field is its default, where one is named.
type Config struct {
	// Operation is what to do. There is no default.
	Operation Operation
	// From is where. The zero Space is the whole database, without a namespace.
	From Space
	// To gives entries new names; nil leaves them. See the package comment for what that asks of writers. If the names
	// stay the same, because only the border between namespace and key moves (from no namespace and the prefix "shop:" to
	// the namespace "shop"), values are bound anew in place.
	To *Space
	// Keys seal, and open: those of the application. Unseal needs them to open only.
	Keys tink.AEADWithContext
	// OldKeys open what Keys cannot: another keyset, or a keyring for values that move to an envelope. Nil is none.
	OldKeys tink.AEADWithContext
	// As is the type that Seal gives to values in clear. The default is AsBytes.
	As ValueType
	// Exclude are prefixes of stored names that are left alone, besides "asynq:": of locks, of counters that something
	// increments, and of whatever else is changed by a command of Redis other than SET, for instance.
	Exclude []string
	// LeaveNumbers leaves clear values that are whole numbers as INCR leaves them. By default Seal seals them as it does
	// all others, since a cached number is a value, and INCR fails from then on; see Counts.Numbers.
	LeaveNumbers bool
	// DeleteOld deletes an entry whose name was changed, after the new one was read back and opened. It needs To, and a
	// sealed entry that opens under Keys, so that what is deleted is not left under other keys than the application's.
	DeleteOld bool
	// DryRun reads, opens and counts, and writes nothing.
	DryRun bool
	// IgnoreUnreadable goes on although sealed entries are there and none of them opens, or fewer than half: they are counted
	// as unreadable, or sealed under a key that was not given. Without it Run returns ErrWrongKeys, since with the wrong
	// keys or namespace it would make clear entries unreadable to the application, too: before anything is written, if up
	// to 200,000 names of each master show it, and otherwise when it meets the first sealed entry, which does not open.
	// Without it DeleteOld asks for one that opens under Keys.
	IgnoreUnreadable bool

	// Rate bounds the entries per second; ten names that are outside the scope, and only looked at by SCAN, count as one,
	// and so do four of those that are looked at before in search of sealed ones, to try the keys with.
	// 0 is no bound.
	Rate float64
	// MaxValueBytes bounds the size of a stored value; larger ones are left alone and counted. The default is 64 MiB.
	MaxValueBytes int
	// Checkpoint is the file in which progress is kept, so that a run that was killed can be resumed with the same
	// Config. It holds no names and no keys, and is removed when the run is complete. Empty is none. Where a key service
	// shows no id of its key in what it wraps, Reseal leaves alone what it has sealed before it was killed, also if the key
	// service was rotated since: remove the checkpoint to begin anew.
	Checkpoint string
	// Progress is called several times a second and at the end, by one goroutine at a time. Nil is none.
	Progress func(Progress)
	// Logger is told of what is tried again. The default is slog.Default().
	Logger *slog.Logger
}

const defaultMaxValueBytes = 64 << 20

// reserved begins the names of asynq's keys, which must stay what they are.
const reserved = "asynq:"

// ErrConfig says that a Config or AuditConfig cannot be meant. Nothing was done.
var ErrConfig = errors.New("migrate: wrong configuration")

// withDefaults checks a Config and fills in what was left out.
func (c Config) withDefaults() (Config, error) {
	var errs []error
	bad := func(format string, a ...any) { errs = append(errs, fmt.Errorf(format, a...)) }
	if c.Operation < Seal || c.Operation > Unseal {
		bad("no operation: Seal, Reseal or Unseal")
	}
	if err := c.From.check(); err != nil {
		bad("From: %w", err)
	}
	if c.To != nil {
		to := *c.To
		c.To = &to
		if err := to.check(); err != nil {
			bad("To: %w", err)
		}
		if to == c.From {
			bad("To is From: leave it out to change values in place")
		}
	}
	if strings.HasPrefix(c.From.stored(), reserved) || c.To != nil && strings.HasPrefix(c.To.stored(), reserved) {
		bad("names that begin with %q are asynq's, which are left alone", reserved)
	}
	if cachevalue.IsNil(c.Keys) {
		bad("no Keys: an aead.Envelope or aead.Keyring")
	}
	if c.OldKeys != nil && cachevalue.IsNil(c.OldKeys) {
		bad("OldKeys is a nil pointer")
	}
	if _, err := c.As.wire(); err != nil {
		bad("As: %w", err)
	} else if c.As != "" && c.Operation != Seal {
		bad("As applies to Seal only")
	}
	if c.LeaveNumbers && c.Operation != Seal {
		bad("LeaveNumbers applies to Seal only")
	}
	for _, p := range c.Exclude {
		if p == "" {
			bad("Exclude: an empty prefix would exclude everything")
		}
	}
	if c.DeleteOld && c.inPlace() {
		bad("DeleteOld needs To, with other names than From")
	}
	switch {
	case c.MaxValueBytes == 0:
		c.MaxValueBytes = defaultMaxValueBytes
	case c.MaxValueBytes < 0:
		bad("MaxValueBytes: %d is negative", c.MaxValueBytes)
	}
	if !(c.Rate >= 0) { // NaN too
		bad("Rate: %v is not a number of entries per second", c.Rate)
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if len(errs) > 0 {
		return c, fmt.Errorf("%w: %w", ErrConfig, errors.Join(errs...))
	}
	return c, nil
}

// inPlace tells whether entries keep their names.
func (c *Config) inPlace() bool { return c.To == nil || c.To.stored() == c.From.stored() }

// rebinds tells whether values are bound to another namespace or key than before.
func (c *Config) rebinds() bool { return c.To != nil }

// target is where entries are bound to in the end.
func (c *Config) target() Space {
	if c.To == nil {
		return c.From
	}
	return *c.To
}

// place tells what the key of a stored name of From is, and where it goes. It is not ok for a name that is left alone.
type place struct {
	key   string // as the application gives it, From's
	toKey string
	to    string // the stored name to write
}

type nameVerdict int

const (
	nameTaken    nameVerdict = iota
	nameForeign              // not in the space after all
	nameExcluded             // reserved or excluded
	nameArrived              // it has the form of a name that a move has made
	nameTwisted              // where it would go, it would be found and moved again
)

func (c *Config) locate(stored string) (place, nameVerdict) {
	if !strings.HasPrefix(stored, c.From.stored()) {
		return place{}, nameForeign
	}
	if strings.HasPrefix(stored, reserved) {
		return place{}, nameExcluded
	}
	for _, p := range c.Exclude {
		if strings.HasPrefix(stored, p) {
			return place{}, nameExcluded
		}
	}
	key := stored[len(c.From.namespace()):]
	if c.To == nil {
		return place{key: key, toKey: key, to: stored}, nameTaken
	}
	from, to := c.From.stored(), c.To.stored()
	if to != from && strings.HasPrefix(to, from) && strings.HasPrefix(stored, to) {
		return place{}, nameArrived
	}
	p := place{key: key, toKey: c.To.Prefix + stored[len(from):]}
	p.to = c.To.namespace() + p.toKey
	if !strings.HasPrefix(to, from) && strings.HasPrefix(p.to, from) {
		return place{}, nameTwisted
	}
	return p, nameTaken
}
