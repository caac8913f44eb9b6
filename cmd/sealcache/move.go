package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/middleware/migrate"
)

// move is migrate, reseal and unseal.
func move(p *program, c command, args []string) (int, error) {
	operation := map[string]migrate.Operation{"migrate": migrate.Seal, "reseal": migrate.Reseal, "unseal": migrate.Unseal}[c.name]
	f := newFlags(p, c)
	url := f.redis()
	keys, old := f.keys(), f.oldKeys()
	space := f.space().withTo()
	var exclude list
	f.Var(&exclude, "exclude", "leave stored names alone that begin with this `text`; may be repeated (asynq's always are)")
	as, leaveNumbers := "", false
	if operation == migrate.Seal {
		f.BoolVar(&leaveNumbers, "leave-numbers", false, "leave whole numbers, which may be counters, in clear; an audit will show them")
		f.StringVar(&as, "as", "bytes", "`type` that clear values get: bytes, string, json, msgpack or protobuf; see the runbook")
	}
	deleteOld := f.Bool("delete-old", false, "with -to-...: delete an old entry after the new one was read back and opened")
	dryRun := f.Bool("dry-run", false, "read, open and count; write nothing")
	checkpoint := f.String("checkpoint", "", "`file` that holds progress; a run that was stopped or killed goes on from it")
	unopened := f.Bool("allow-unopened", false, "go on although none of the sealed entries opens under these keys")
	rate := f.Float64("rate", 0, "most entries per second; 0 is no bound")
	large := f.Int("max-value-bytes", 0, "leave larger values alone (default 64 MiB)")
	output := f.output()
	if err := f.parse(args, 0); err != nil {
		return 0, err
	}
	from, err := space.from()
	if err != nil {
		return 0, err
	}
	to, err := space.to()
	if err != nil {
		return 0, err
	}
	if err := output.check(); err != nil {
		return 0, err
	}
	if !*dryRun {
		if err := writable("-checkpoint", *checkpoint); err != nil {
			return 0, err
		}
	}
	config := migrate.Config{
		Operation: operation, From: from, To: to, As: migrate.ValueType(as), Exclude: exclude,
		DeleteOld: *deleteOld, DryRun: *dryRun, Checkpoint: *checkpoint, IgnoreUnreadable: *unopened, LeaveNumbers: leaveNumbers,
		Rate: *rate, MaxValueBytes: *large, Logger: p.log,
	}
	if name, ok := strings.CutSuffix(from.Prefix, ":"); ok && operation == migrate.Seal && from.Namespace == "" && to == nil && middleware.CheckNamespace(name) == nil {
		fmt.Fprintf(p.stderr, "sealcache %[1]s: what is sealed so opens in a store without a namespace. If the application's has the namespace %[2]q, stop and say -namespace %[2]s instead of -prefix\n", c.name, name)
	}
	opened, err := keys.open(p.ctx, p, toSeal)
	if err != nil {
		return 0, err
	}
	defer opened.close()
	config.Keys = opened.aead
	if *old.kek != "" {
		o, err := old.open(p.ctx, p, toSeal)
		if err != nil {
			return 0, err
		}
		defer o.close()
		config.OldKeys = o.aead
	} else if *old.keyset != "" {
		return 0, wrong("-old-keyset needs -old-kek")
	}
	client, err := openRedis(p.ctx, *url)
	if err != nil {
		return 0, err
	}
	defer client.Close()
	show, done := output.progress(p, c.name)
	config.Progress = show
	report, err := migrate.Run(p.ctx, client, config)
	done()
	if report == nil {
		return 0, err
	}
	if e := output.write(p, report, report.WriteText); e != nil && err == nil {
		err = e
	}
	switch {
	case err != nil && !errors.Is(err, migrate.ErrWrongKeys) && goesOn(*checkpoint, err):
		return 0, fmt.Errorf("%w\nThe same command goes on from here", err)
	case errors.Is(err, migrate.ErrWrongKeys):
		return 0, fmt.Errorf("%w\n%s \"sealcache get\" shows whether an entry opens; -allow-unopened goes on nevertheless", err, whatWasWritten(operation, report))
	case errors.Is(err, migrate.ErrCheckpoint):
		return 0, fmt.Errorf("%w\nGive the flags of the run that it is of, or another -checkpoint, or remove it to begin anew", err)
	case err != nil:
		return 0, err
	case report.Seen == 0 && !*space.all:
		fmt.Fprintf(p.stderr, "sealcache %s: no stored name begins with %q: see whether -namespace and -prefix are the application's, and -redis the right server and database\n", c.name, report.From)
		return exitLeft, nil
	case !report.Done():
		return exitLeft, nil
	default:
		return exitDone, nil
	}
}

// whatWasWritten says what a run that none of the sealed entries opened for has done.
func whatWasWritten(o migrate.Operation, r *migrate.Report) string {
	switch {
	case r.Written == 0 || r.DryRun:
		return "Nothing was written."
	case o == migrate.Unseal:
		return fmt.Sprintf("%d entries were written in clear before.", r.Written)
	default:
		return fmt.Sprintf("%d entries were written before, sealed under these keys: if they are the wrong ones, unseal those entries with them, or delete them.", r.Written)
	}
}

// goesOn tells whether the same command would go on from a checkpoint after an error: it is there, and was not itself
// what failed.
func goesOn(checkpoint string, err error) bool {
	var path *fs.PathError
	var link *os.LinkError
	if checkpoint == "" || errors.Is(err, migrate.ErrCheckpoint) || errors.As(err, &path) || errors.As(err, &link) {
		return false
	}
	_, err = os.Stat(checkpoint)
	return err == nil
}

// writeJSON writes a report to a file, as a whole or not at all, or to the output.
func writeJSON(p *program, path string, v any) error {
	data, err := json.MarshalIndent(v, "", "\t")
	if err != nil {
		return err
	}
	data = append(data, '\n')
	if path == "-" {
		_, err = p.stdout.Write(data)
		return err
	}
	return replaceFile(path, data)
}

// createBeside makes the file that takes the place of another once it is whole.
func createBeside(path string) (*os.File, error) {
	return os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp")
}

func replaceFile(path string, data []byte) error {
	f, err := createBeside(path)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}
