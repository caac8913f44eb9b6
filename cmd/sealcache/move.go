package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/middleware/migrate"
)

// moveCommand is "migrate", "reseal" and "unseal".
type moveCommand struct {
	operation migrate.Operation

	redis       redisFlag
	keys, old   dataKeyFlags
	hidden      prfFlags
	scope       scopeFlags
	output      outputFlags
	toNamespace string
	toPrefix    string
	as          string
	proof       string
	checkpoint  string
	control     string
	throttle    throttleFlags
	maxLag      int64
	maxBytes    int

	leaveNumbers, deleteOld, dryRun, ignoreUnreadable, allowUnproven, allowEviction, allowFewer bool
}

func (m *moveCommand) declare(f *flags) {
	m.redis.declare(f)
	m.keys.declare(f)
	m.hidden.declare(f)
	f.need("kek")
	m.scope.declare(f)
	f.BoolVar(&m.dryRun, "dry-run", false, "read, open and count; change no entry; test the permissions of the Redis user")
	f.StringVar(&m.proof, "proof", "", "`CACHE-KEY` of an entry that the application has sealed: opening it proves that the given encryption keys are the right ones")
	f.BoolVar(&m.allowUnproven, "allow-unproven", false, "run although nothing proves that the encryption keys are those of the application")
	f.BoolVar(&m.ignoreUnreadable, "ignore-unreadable", false, "continue although the present values do not open under the given encryption keys")
	f.StringVar(&m.checkpoint, "checkpoint", "", "`FILE` that keeps the progress, so that the same command continues a stopped run")
	m.throttle.declare(f)
	f.Int64Var(&m.maxLag, "max-lag", 0, "pause while a replica is more than this number of `BYTES` behind; 0 means no limit")
	f.BoolVar(&m.allowFewer, "allow-fewer-replicas", false, "complete the run although replicas that were there at its start are gone for good")
	f.BoolVar(&m.allowEviction, "allow-eviction", false, "continue although Redis is close to maxmemory or evicts entries")
	declareControl(f, &m.control)
	f.IntVar(&m.maxBytes, "max-value-bytes", 0, "skip values larger than this number of `BYTES` (default 8 MiB)")
	if m.operation == migrate.Seal {
		f.choice(&m.as, "as", "how the application reads the values: as []byte (bytes), as string, or with the codec json, msgpack or protobuf", "bytes", "string", "json", "msgpack", "protobuf")
		f.BoolVar(&m.leaveNumbers, "leave-numbers", false, "leave whole numbers, which may be counters, as plaintext")
	}
	m.old.declareOld(f)
	f.StringVar(&m.toNamespace, "to-namespace", "", "move the entries to this `NAMESPACE`; first stop the processes that write to the old names")
	f.StringVar(&m.toPrefix, "to-prefix", "", "replace --prefix in the names by this `TEXT` (with --stored, both start with the namespace); first stop the processes that write to the old names")
	f.BoolVar(&m.deleteOld, "delete-old", false, "with --to-namespace or --to-prefix: delete an old entry once the new one was read back and opened")
	m.output.declare(f)
	f.file("checkpoint")
}

// to returns the new names, nil if they stay.
func (m *moveCommand) to(f *flags, from migrate.Space) (*migrate.Space, error) {
	if !f.Changed("to-namespace") && !f.Changed("to-prefix") {
		if m.deleteOld {
			return nil, wrong("--delete-old needs --to-namespace or --to-prefix")
		}
		return nil, nil //nolint:nilnil // the names stay
	}
	to := from
	if f.Changed("to-namespace") {
		to.Namespace = m.toNamespace
	}
	if f.Changed("to-prefix") {
		source := ""
		if !f.Changed("to-namespace") {
			source = f.namespaceSource()
		}
		var err error
		if to.Prefix, err = keyIn(to.Namespace, source, m.scope.stored, "to-prefix", m.toPrefix); err != nil {
			return nil, err
		}
	}
	if to == from {
		remedy := ""
		if f.namespaceSource() != "" && from.Namespace != "" {
			remedy = " (for names without a namespace give --namespace '')"
		}
		return nil, wrong("the new names equal the old ones: namespace %q%s, prefix %q%s", from.Namespace, f.namespaceSource(), from.Prefix, remedy)
	}
	if m.deleteOld && start(to.Namespace)+to.Prefix == start(from.Namespace)+from.Prefix {
		return nil, wrong("--delete-old: the names in Redis do not change, so there are no old entries")
	}
	return &to, nil
}

// config checks the flags.
func (m *moveCommand) config(p *program, f *flags) (migrate.Config, error) {
	config := migrate.Config{
		Operation: m.operation, As: migrate.ValueType(m.as), LeaveNumbers: m.leaveNumbers, DeleteOld: m.deleteOld,
		DryRun: m.dryRun, Checkpoint: m.checkpoint, IgnoreUnreadable: m.ignoreUnreadable,
		Proof: m.proof, AllowUnproven: m.allowUnproven, AllowEviction: m.allowEviction, AllowFewerReplicas: m.allowFewer, MaxValueBytes: m.maxBytes, Logger: p.log,
		Rate: m.throttle.rate, BytesPerSecond: m.throttle.bytes, MaxLatency: m.throttle.latency, MaxLagBytes: m.maxLag,
	}
	var err error
	if config.From, err = m.scope.space(); err != nil {
		return config, err
	}
	if config.Exclude, err = m.scope.list("exclude", m.scope.exclude); err != nil {
		return config, err
	}
	if config.To, err = m.to(f, config.From); err != nil {
		return config, err
	}
	switch {
	case m.proof != "" && m.allowUnproven:
		return config, wrong("--proof and --allow-unproven cannot be used together")
	case samePath(m.checkpoint, m.output.report):
		return config, wrong("--checkpoint and --report name the same file")
	case m.old.kek == "" && (m.old.keyset != "" || m.old.name != "" || len(m.old.context) > 0 || m.old.tenant != "" || m.old.tenantKEKs != "" || f.Changed("old-keys-as")):
		return config, wrong("--old-kek is missing (the other --old- flags need it)")
	}
	if config.Proof, err = m.scope.key("proof", m.proof); err != nil {
		return config, err
	}
	filters := config.From.Prefix != "" || len(config.Exclude) > 0
	if err := errors.Join(m.hidden.check(m.keys.kek, filters), m.throttle.check(f), f.notNegative("max-value-bytes", "max-lag"), m.output.check(f), checkControl(m.control)); err != nil {
		return config, err
	}
	if !m.dryRun {
		if err := writable("checkpoint", m.checkpoint); err != nil {
			return config, err
		}
	}
	return config, nil
}

func (m *moveCommand) run(ctx context.Context, p *program, f *flags) (int, error) {
	config, err := m.config(p, f)
	if err != nil {
		return 0, err
	}
	if name, ok := strings.CutSuffix(config.From.Prefix, ":"); ok && m.operation == migrate.Seal && config.From.Namespace == "" && config.To == nil && middleware.CheckNamespace(name) == nil {
		fmt.Fprintf(p.stderr, "%[1]s: only a cache without a namespace will open these values (if it has one, stop and give --namespace %[2]s)\n", f.cmd.CommandPath(), name)
	}
	keys, err := m.keys.open(ctx, p, toSeal)
	if err != nil {
		return 0, err
	}
	defer keys.close()
	config.Keys = keys.aead
	if config.HiddenKeys, config.OneWayKeys, err = m.hidden.open(ctx, p, m.keys.kek, m.keys.others); err != nil {
		return 0, err
	}
	var oldKeys []keyInfo
	if m.old.kek != "" {
		old, err := m.old.open(ctx, p, toOpen)
		if err != nil {
			return 0, err
		}
		defer old.close()
		config.OldKeys, oldKeys = old.aead, infoOf(old.ring)
		if old.alone {
			config.OldKeys = opensOnly{old.aead}
		}
	}
	client, err := m.redis.open(ctx)
	if err != nil {
		return 0, err
	}
	defer client.Close()
	h := newHeader(f).at(&m.redis, client, infoOf(keys.ring))
	h.OldKeyset = oldKeys
	config.Control = new(migrate.Control)
	show, done := m.output.follow(p, m.control, config.Control)
	defer done()
	config.Progress = func(s migrate.Progress) { show(moveProgress(h.Command, s)) }
	report, err := migrate.Run(ctx, client, config)
	done()
	if report == nil {
		return 0, err
	}
	report.Warnings, report.Error = flagged(report.Warnings), withFlags(report.Error)
	if !m.refused(report, err) {
		if e := m.output.write(p, h, report, report.WriteText); e != nil && err == nil {
			err = e
		}
	}
	if errors.Is(err, migrate.ErrWrongKeys) || report.Unreadable+report.UnknownKey > 0 {
		sayDisabled(p, append(infoOf(keys.ring), oldKeys...))
	}
	return m.status(p, f, report, err)
}

func moveProgress(command string, s migrate.Progress) progress {
	return progress{
		Command: command, Phase: s.Phase, Paused: s.Paused, Fraction: s.Fraction, Seen: s.Seen, Written: &s.Written,
		PerSecond: s.Rate, Elapsed: s.Elapsed.Seconds(), Remaining: s.Remaining.Seconds(), final: s.Final,
	}
}

// refused reports whether the run ended before it did anything.
func (m *moveCommand) refused(report *migrate.Report, err error) bool {
	return err != nil && report.Runs == 0 || errors.Is(err, migrate.ErrConfig) || errors.Is(err, migrate.ErrCheckpoint) || errors.Is(err, migrate.ErrUnproven) || errors.Is(err, migrate.ErrWrongKeys) && report.Seen == 0
}

// status is the exit status of a run that has a report.
func (m *moveCommand) status(p *program, f *flags, report *migrate.Report, err error) (int, error) {
	switch {
	case errors.Is(err, migrate.ErrWrongKeys):
		status := exitFailed
		if report.Written == 0 || report.DryRun {
			status = exitUsage
		}
		return 0, &statusError{status, fmt.Errorf("%w\n%s (\"sealcache get\" shows whether the given encryption keys open an entry)", err, describeWrites(m.operation, report))}
	case errors.Is(err, migrate.ErrUnproven):
		return 0, &statusError{exitUsage, err}
	case errors.Is(err, migrate.ErrMemory) && !m.allowEviction:
		return 0, fmt.Errorf("%w\n(to continue without more memory, give --allow-eviction)", err)
	case errors.Is(err, migrate.ErrUnconfirmed):
		return 0, fmt.Errorf("%w\n(repeat the command when the replicas are back, or give --allow-fewer-replicas)", err)
	case errors.Is(err, migrate.ErrCheckpoint):
		return 0, wrong("--checkpoint: %w", err)
	case err != nil && continues(m.checkpoint, err):
		return 0, fmt.Errorf("%w (run the same command again to continue)", err)
	case err != nil:
		return 0, err
	case report.Seen == 0 && !m.scope.all:
		sayNothingFound(p, f, report.From)
		return exitLeft, nil
	case !report.Done():
		return exitLeft, nil
	default:
		return exitDone, nil
	}
}

// describeWrites describes the writes of a run that stopped because of wrong keys.
func describeWrites(o migrate.Operation, r *migrate.Report) string {
	switch {
	case r.Written == 0 || r.DryRun:
		return "Nothing was written."
	case o == migrate.Unseal:
		return fmt.Sprintf("Number of entries that were written as plaintext: %d.", r.Written)
	default:
		return fmt.Sprintf("Before this error, the run sealed entries under these wrong keys: %d. Run \"sealcache unseal --allow-unproven\" with the same keys, or delete these entries.", r.Written)
	}
}

// continues reports whether the same command would continue from a checkpoint after an error: the checkpoint exists, and is
// not the cause of the error.
func continues(checkpoint string, err error) bool {
	var path *fs.PathError
	var link *os.LinkError
	if checkpoint == "" || errors.As(err, &path) || errors.As(err, &link) {
		return false
	}
	_, err = os.Stat(checkpoint)
	return err == nil
}
