package migrate

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/sealcache/sealcache/internal/rediscmd"
	"github.com/sealcache/sealcache/internal/rediserr"
	"github.com/sealcache/sealcache/middleware/internal/box"
	"github.com/sealcache/sealcache/middleware/internal/keycheck"
	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// These scripts run commands of a real run without an effect, because there is no entry: prove lets them begin with
// probeStart. SET XX writes nothing then. KEYS: a name without an entry.
const (
	probeStart = `
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
`
	probeSource = `redis.call('SET', KEYS[1], '', 'XX', 'KEEPTTL')`
	// probeReadSource has the command that compares plaintext and the key check.
	probeReadSource = `redis.call('GET', KEYS[1])`
	// probeCompareSource has the commands that compare a sealed value.
	probeCompareSource = `
redis.call('STRLEN', KEYS[1])
redis.call('GETRANGE', KEYS[1], -1, -1)`
	probeDropSource = `redis.call('DEL', KEYS[1])`
	// probeExpirySource has the commands of swapSource for a value with a sealed expiry.
	probeExpirySource = `
redis.call('PTTL', KEYS[1])
redis.call('TIME')
redis.call('PEXPIREAT', KEYS[1], 1)`
	// probeTagSource has the commands of tagSource. The set that SADD makes expires at once, within the script.
	probeTagSource = `
redis.call('PEXPIRETIME', KEYS[1])
redis.call('PERSIST', KEYS[1])
redis.call('PEXPIREAT', KEYS[1], 1)
redis.call('SADD', KEYS[1], '')
redis.call('PEXPIREAT', KEYS[1], 1)`
	probeUntagSource = `redis.call('SREM', KEYS[1], '')`
)

// probeName ends the names that the scripts get.
const probeName = "sealcache.dry-run"

// proveCommands tests the commands that a run needs, before the run reads entries. It fails if the user may not call EVAL or
// SET, or if the server is read-only or full. A dry run fails too, because the run without DryRun would. The error's text
// has no "migrate: ", because Plan shows it as an obstacle.
func (m *migration) proveCommands(ctx context.Context) error {
	name := m.target().stored() + probeName
	if err := m.prove(ctx, name, probeSource, "EVAL, EVALSHA or SET"); err != nil {
		return err
	}
	if err := m.prove(ctx, name, probeReadSource, "GET"); err != nil {
		return err
	}
	renames := m.DeleteOld || m.hides()
	if m.inPlace() && (m.Operation != Seal || m.rebinds()) || renames { // Seal renames and rebinds sealed values, too
		if err := m.prove(ctx, name, probeCompareSource, "STRLEN or GETRANGE"); err != nil {
			return err
		}
	}
	if m.DeleteOld || m.hides() && (m.To != nil || len(m.prfSet().PRFs) > 1) { // Reseal deletes names of older PRF keys
		if err := m.prove(ctx, name, probeDropSource, "DEL"); err != nil {
			return err
		}
	}
	if m.DryRun && m.Keys != nil { // and not Plan
		return m.proveRecords(ctx)
	}
	return nil
}

// proveExpiry tests the commands that Unseal in place needs for a value with a sealed expiry. It is part of a dry run.
func (m *migration) proveExpiry(ctx context.Context) error {
	m.expiryOnce.Do(func() {
		m.expiryErr = m.prove(ctx, m.target().stored()+probeName, probeExpirySource, "PTTL, TIME or PEXPIREAT")
	})
	return m.expiryErr
}

// proveTags tests the commands that a run needs where entries have tags. It is part of a dry run.
func (m *migration) proveTags(ctx context.Context) error {
	m.tagsOnce.Do(func() {
		name := tagPrefix + m.target().namespace() + probeName
		m.tagsErr = m.prove(ctx, name, probeTagSource, "SADD, PERSIST, PEXPIRETIME or PEXPIREAT")
		if m.tagsErr == nil && m.DeleteOld && m.tagged() {
			m.tagsErr = m.prove(ctx, name, probeUntagSource, "SREM")
		}
	})
	return m.tagsErr
}

// prove runs a script of commands without an effect.
func (m *migration) prove(ctx context.Context, name, source, commands string) error {
	err := m.walk.Retry(ctx, "test the permissions of the Redis user", func(ctx context.Context) error {
		call := &rediswalk.Call{Keys: []string{name}}
		if err := m.servers.Run(ctx, rediscmd.NewScript(probeStart+source+"\nreturn 1"), []*rediswalk.Call{call}); err != nil {
			return err
		}
		if rediserr.Code(call.Cmd.Err()) == "OOM" && !m.DryRun {
			return nil // see admit, which names the remedy
		}
		return call.Cmd.Err()
	})
	switch {
	case err == nil:
		return nil
	case !rediserr.RefusedForGood(err):
		return fmt.Errorf("cannot test whether Redis allows %s: %w", commands, rediserr.Wrap(err))
	case m.DryRun:
		return fmt.Errorf("a real run would fail, because Redis refuses %s: %w", commands, rediserr.Wrap(err))
	default:
		return fmt.Errorf("the run cannot change entries, because Redis refuses %s: %w", commands, rediserr.Wrap(err))
	}
}

// proveRecords tests whether a real run could write its record. Without a checkpoint it would only warn: see register.
func (m *migration) proveRecords(ctx context.Context) error {
	err := m.walk.Retry(ctx, accessRuns, m.servers.ProveRuns)
	switch {
	case errors.Is(err, rediswalk.ErrRunsRefused) && m.Checkpoint == "":
		m.warn("a real run could not write " + rediswalk.RunsName + ", so older checkpoint files would stay valid (allow the key in the user's ACL)")
		return nil
	case err != nil:
		return fmt.Errorf("a real run would fail: %w", err)
	}
	return nil
}

// renewKeyCheck seals the key check of the target under the present key, unless it names that key. It never makes one.
func (m *migration) renewKeyCheck(ctx context.Context) error {
	namespace := m.target().Namespace
	name := keycheck.StoredName(namespace)
	stored, err := m.get(ctx, name, keycheck.MaxBytes)
	if errors.Is(err, errTooLarge) { // it has changed since the run began
		return nil
	}
	if err != nil || len(stored) == 0 || m.DryRun {
		return err
	}
	by, _, err := m.openedBy(ctx, namespace, stored, box.Refused)
	if err != nil || by < 0 { // it has changed since the run began
		return err
	}
	return m.swapKeyCheck(ctx, name, stored, by > 0)
}

func (m *migration) swapKeyCheck(ctx context.Context, name string, stored []byte, always bool) error {
	var fresh []byte
	now, err := keycheck.New(m.Keys, m.target().Namespace)
	if err == nil {
		err = m.ask(ctx, func(ctx context.Context) (err error) {
			fresh, err = now.Seal(ctx)
			return err
		})
	}
	if err != nil {
		return fmt.Errorf("migrate: cannot seal the entry sealcache.key-check (it tests the keys) with the new key: %w", err)
	}
	// The same rule as for values: over a key service, an entry of before may be under another KEK or wrap context.
	done := m.present.names(stored[wire.HeaderSize:]) && !keycheck.Outdated(stored, fresh)
	if !always && done || bytes.Equal(stored, fresh) {
		return nil
	}
	call := &rediswalk.Call{Keys: []string{name}, Args: []any{stored, -1, fresh, 0}}
	err = m.walk.Retry(ctx, "write the entry sealcache.key-check", func(ctx context.Context) error {
		if err := m.servers.Run(ctx, m.scripts.swap, []*rediswalk.Call{call}); err != nil {
			return err
		}
		return call.Cmd.Err()
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return fmt.Errorf("migrate: cannot write the entry sealcache.key-check, which tests the keys: %w", rediserr.Wrap(err))
	}
	return nil
}
