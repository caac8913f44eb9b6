package migrate

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/tink-crypto/tink-go/v2/prf"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/internal/nilcheck"
	"github.com/sealcache/sealcache/middleware/internal/asynqwire"
	"github.com/sealcache/sealcache/middleware/internal/keycheck"
	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// Operation is what Run does with the values.
type Operation int

const (
	// Seal seals plaintext values. In place it leaves sealed values alone. With Config.To it opens them and seals them for
	// their new names. With Config.HiddenKeys it also hides the names.
	Seal Operation = iota + 1
	// Reseal seals again what is sealed under another key than the present one of Config.Keys. It counts plaintext values
	// and leaves them alone. With Config.HiddenKeys it also moves hidden names to the primary PRF key.
	Reseal
	// Unseal opens sealed values and writes them as plaintext, in the form of middleware.WritePlaintext.
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
		return fmt.Sprintf("unknown operation %d", int(o))
	}
}

// ValueType is the type that Seal gives to plaintext values.
type ValueType string

// The types of values.
const (
	AsBytes    ValueType = "bytes"    // []byte, the default
	AsString   ValueType = "string"   // for cache.New[string]
	AsJSON     ValueType = "json"     // for a store with middleware.JSON; a value that is not JSON is left alone
	AsMsgPack  ValueType = "msgpack"  // for a store with middleware.MsgPack; a value that is not MessagePack is left alone
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
		return 0, fmt.Errorf("unknown type %q (allowed: bytes, string, json, msgpack, protobuf)", string(t))
	}
}

// Space is a set of names in Redis.
type Space struct {
	// Namespace is the namespace of the application's store (middleware.WithNamespace). Stored names start with it
	// and a colon, and values are bound to it. Empty means none.
	Namespace string
	// Prefix limits the space to keys that start with it, literally. Keys are as the application gives them, without the
	// namespace. Empty means all.
	Prefix string
}

// stored is the start of the stored names of the space.
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
	return wire.CheckNamespace(s.Namespace)
}

// Config describes a run. The zero value of a field is its default.
type Config struct {
	// Operation is what to do. There is no default.
	Operation Operation
	// From is where. The zero Space is the whole database, without a namespace.
	From Space
	// To gives entries new names. Nil leaves the names as they are. Before you call Run, stop every process that writes to the
	// old names. The run copies each entry to its new name. It also updates gocache's tags, so that invalidation finds the new
	// names. To delete the old entries, set DeleteOld.
	//
	// A run does not overwrite an existing entry. If that entry has the same value and the same expiration, the entry counts
	// as moved. If the stored names stay the same (no namespace and the prefix "shop:" become the namespace "shop"), values
	// are bound again in place.
	To *Space

	// HiddenKeys are the PRF keys by which the application hides names (middleware.WithHiddenKeys): a key of a pseudorandom
	// function (PRF) makes a pseudonym from a name. Nil means that hidden names stay as they are. Otherwise a run moves
	// entries, and deletes each old one:
	//
	//   - Seal moves entries from plain names, and from pseudonyms of older PRF keys, to the pseudonyms of the primary PRF
	//     key. A process without WithHiddenKeys does not find hidden entries. So before Seal, stop all such processes.
	//   - Reseal moves entries from pseudonyms of older PRF keys to those of the primary PRF key.
	//   - Unseal moves entries back to their plain names.
	//
	// Before the run, make the new PRF key primary in every process. The application can read and write during the run,
	// unless To is set. On a single node, a run moves an entry in one step. In a Cluster, the entry exists under both names
	// for a moment. If the application changes or deletes it in this moment, the run undoes the move. If a run in a Cluster
	// is killed, or a server does not answer, repeat the run at once. Otherwise a change of the application can be lost.
	// docs/hiding.md lists all cases, and what the application can see during a run.
	//
	// Prefix and Exclude match the keys that are sealed in the values. To, if given, needs another namespace than From, and
	// one enabled PRF key.
	HiddenKeys *prf.Set
	// OneWayKeys are HiddenKeys of an application with middleware.WithOneWayKeys. Entries that are hidden already keep their
	// names, because nothing shows their keys: they count as OneWay if they are under an older PRF key. Prefix, Exclude and
	// Unseal are errors.
	OneWayKeys *prf.Set

	// Keys seal and open. They are the application's.
	Keys tink.AEADWithContext
	// OldKeys open what Keys cannot: another keyset, or a keyring when values move to an envelope. Nil means none.
	OldKeys tink.AEADWithContext
	// Proof is the key of an entry that the application has sealed, in the namespace of To, or of From. It proves Keys in a
	// namespace without a key check. See ErrUnproven.
	Proof string
	// AllowUnproven runs although nothing proves the keys. A run with other keys than the application's makes every value
	// that it writes unreadable to the application.
	AllowUnproven bool
	// IgnoreUnreadable runs although no sealed value among the first batches opens. Unreadable values are counted and left
	// alone. See ErrWrongKeys.
	IgnoreUnreadable bool

	// As is the type that Seal gives to plaintext values, which have no Go type in Redis. The default is AsBytes. This is
	// right for values of gocache's marshaler. For a cache.New[string], set AsString.
	As ValueType
	// Exclude lists prefixes of keys that are left alone, for example of locks and counters. They are keys of From, without
	// its namespace. A prefix that cannot match a key of From is an error. One that matched nothing is reported, and the
	// Report is not Done. Names that start with "asynq:" and key checks are always left alone.
	Exclude []string
	// Stored reports whether Exclude and Proof are stored names, with the namespace.
	Stored bool
	// LeaveNumbers leaves plaintext values alone that are whole numbers as INCR writes them. By default Seal seals them,
	// and INCR on them fails from then on.
	LeaveNumbers bool
	// MaxValueBytes bounds the stored values that are changed. Larger ones are left alone and counted. The default is
	// 8 MiB, because Redis serves no other client while it swaps a value: about 7 ms per MiB.
	MaxValueBytes int
	// DeleteOld deletes an old entry after the new one was read back and opened. It needs To.
	//
	// In a Cluster, the new name can be on another master. The run deletes the old entry only after every replica of that
	// master has confirmed the copy. So a failover cannot lose both the copy and the old entry. But if a master restarts from
	// an older file, and no replica has taken over from it, the copies on it are lost. If a master has lost a replica, or a
	// replica does not answer for 15 s, the run deletes nothing more and returns ErrUnconfirmed.
	DeleteOld bool
	// DryRun reads, opens and counts, and changes no entry. It also proves that the user may call the commands of the run.
	DryRun bool

	// Rate bounds the entries per second. Ten names outside From that SCAN visits count as one. 0 means no limit.
	Rate float64
	// BytesPerSecond bounds the bytes that are read and written. 0 means no limit.
	BytesPerSecond float64
	// MaxLatency pauses the run while the 99th percentile of PING is longer. 0 means no limit.
	MaxLatency time.Duration
	// MaxLagBytes pauses the run while a replica is further behind its master. 0 means no limit.
	MaxLagBytes int64
	// AllowEviction runs although a master is close to maxmemory or evicts entries, as a full cache always does. Without it,
	// the run then ends with ErrMemory, because sealed values and new names need memory. Unseal in place continues, because it
	// frees memory.
	AllowEviction bool
	// AllowFewerReplicas completes the run although a master has lost all its replicas since the start, or since a run that
	// ended with ErrUnconfirmed. The replicas that are left must confirm the writes. In a Cluster, a run that deletes old names
	// needs it after a master has lost any replica. Set it only after replicas were removed for good.
	AllowFewerReplicas bool
	// Control changes the rate and pauses the run while it runs. Nil means none.
	Control *Control

	// Checkpoint is a file that keeps the progress, so that the same Config resumes a run that was killed. It is sealed
	// under Keys, and removed when the run is complete. ErrCheckpoint says when it is refused. Empty means none.
	//
	// A key service may show no id of its key. Then Reseal leaves alone what it sealed before it was killed, even
	// after a rotation of that key. Remove the checkpoint to begin again.
	Checkpoint string
	// Progress is called at the start, several times a second and at the end, by one goroutine at a time. Nil means none.
	Progress func(Progress)
	// Logger logs retries. The default is slog.Default().
	Logger *slog.Logger
}

const defaultMaxValueBytes = 8 << 20

// ErrConfig reports a Config with a missing, invalid or contradictory setting, or a client that cannot be used. Nothing was
// changed.
var ErrConfig error = rediswalk.ConfigError("migrate: invalid settings")

// ErrClusterNode reports a client for a single node that is connected to one node of a Cluster. It is an ErrConfig.
var ErrClusterNode = rediswalk.ErrClusterNode

// withDefaults checks a Config and fills in defaults.
func (c Config) withDefaults() (Config, error) {
	var errs []error
	bad := func(format string, a ...any) { errs = append(errs, fmt.Errorf(format, a...)) }
	if c.Operation < Seal || c.Operation > Unseal {
		bad("Config.Operation is missing (Seal, Reseal or Unseal)")
	}
	if err := c.From.check(); err != nil {
		bad("Config.From.Namespace: %w", err)
	}
	if c.To != nil {
		to := *c.To
		c.To = &to
		if err := to.check(); err != nil {
			bad("Config.To.Namespace: %w", err)
		}
		if to == c.From {
			bad("Config.To and Config.From are equal (leave Config.To unset to change values in place)")
		}
	}
	if strings.HasPrefix(c.From.stored(), asynqwire.KeyPrefix) || c.To != nil && strings.HasPrefix(c.To.stored(), asynqwire.KeyPrefix) {
		bad("names that start with %q belong to asynq (choose another namespace or prefix)", asynqwire.KeyPrefix)
	}
	errs = append(errs, c.checkKeys()...)
	if _, err := c.As.wire(); err != nil {
		bad("Config.As: %w", err)
	} else if c.As != "" && c.Operation != Seal {
		bad("Config.As applies to the operation Seal only")
	}
	if c.LeaveNumbers && c.Operation != Seal {
		bad("Config.LeaveNumbers applies to the operation Seal only")
	}
	if _, err := c.excluded(); err != nil {
		errs = append(errs, err)
	}
	errs = append(errs, c.checkHidden()...)
	if c.hides() {
		c.DeleteOld = c.Operation != Reseal // the old name would be shown
	} else if c.DeleteOld && c.inPlace() {
		bad("Config.DeleteOld needs a Config.To that changes the names in Redis")
	}
	switch {
	case c.MaxValueBytes == 0:
		c.MaxValueBytes = defaultMaxValueBytes
	case c.MaxValueBytes < 0:
		bad("Config.MaxValueBytes must not be negative")
	}
	if !(c.Rate >= 0) || !(c.BytesPerSecond >= 0) { // NaN too
		bad("Config.Rate and Config.BytesPerSecond must not be negative")
	}
	if c.MaxLatency < 0 || c.MaxLagBytes < 0 {
		bad("Config.MaxLatency and Config.MaxLagBytes must not be negative")
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if len(errs) > 0 {
		return c, fmt.Errorf("%w: %w", ErrConfig, errors.Join(errs...))
	}
	return c, nil
}

func (c *Config) checkKeys() (errs []error) {
	if nilcheck.IsNil(c.Keys) {
		errs = append(errs, errors.New("Config.Keys is missing (set it to an aead.Envelope or aead.Keyring)"))
	}
	if c.OldKeys != nil && nilcheck.IsNil(c.OldKeys) {
		errs = append(errs, errors.New("Config.OldKeys is an interface that holds a nil pointer (set it to keys, or to nil)"))
	}
	if c.Proof != "" && c.AllowUnproven {
		errs = append(errs, errors.New("Config.Proof and Config.AllowUnproven cannot be combined"))
	}
	return errs
}

// excluded is the filter of Exclude.
func (c *Config) excluded() (*rediswalk.Filter, error) {
	return rediswalk.NewFilter("Config.Exclude", c.Exclude, c.From.Namespace, c.Stored, c.From.stored())
}

// inPlace reports whether entries keep their stored names.
func (c *Config) inPlace() bool {
	return !c.hides() && (c.To == nil || c.To.stored() == c.From.stored())
}

// rebinds reports whether values are bound to another namespace or key than before.
func (c *Config) rebinds() bool { return c.To != nil }

// target is the space that entries are bound to in the end.
func (c *Config) target() Space {
	if c.To == nil {
		return c.From
	}
	return *c.To
}

// place is the key of a stored name in From, and where it goes.
type place struct {
	key   string // in From, as the application gives it
	toKey string // the key that the value is bound to
	to    string // the stored name to write
}

type nameVerdict int

const (
	nameTaken    nameVerdict = iota
	nameOutside              // of the space
	nameReserved             // of asynq or of this module
	nameExcluded
	nameArrived    // it has the form of a name that a move makes
	nameMovesAgain // its new name would be found and moved again
)

// reserved reports whether a stored name belongs to asynq or to this module.
func reserved(stored string) bool {
	_, isKeyCheck := keycheck.Namespace(stored)
	return isKeyCheck || stored == rediswalk.RunsName || strings.HasPrefix(stored, asynqwire.KeyPrefix)
}

// locate classifies a stored name by its form.
func (c *Config) locate(exclude *rediswalk.Filter, stored string) (place, nameVerdict) {
	if !strings.HasPrefix(stored, c.From.stored()) {
		return place{}, nameOutside
	}
	if reserved(stored) {
		return place{}, nameReserved
	}
	if exclude.Match(stored) {
		return place{}, nameExcluded
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
		return place{}, nameMovesAgain
	}
	return p, nameTaken
}
