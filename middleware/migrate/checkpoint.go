package migrate

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/internal/strictjson"
	"github.com/sealcache/sealcache/middleware/internal/box"
	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// ErrCheckpoint reports that a checkpoint is not a regular file, is damaged, is of another job, or is out of date. It also reports
// that another run uses the file at this time. While a run has the checkpoint FILE, it also has FILE.lock, on Unix.
// It is out of date if it is older than a week, the data was flushed, or its run is complete. It is also out of date if a run
// with other settings has changed the same names since. Give another file, or remove it to begin again. To begin again is
// safe, and takes the time of a whole run.
var ErrCheckpoint = errors.New("migrate: the checkpoint file cannot be used")

// checkpoint is the state that a run saves for the next one. The file holds it sealed under Config.Keys, so that it
// cannot be edited, and opens only under the keys of the job.
type checkpoint struct {
	// Job is a digest of what decides which entries are written and how.
	Job string `json:"job"`
	// Run is the id of the run's record in Redis. See rediswalk.CheckRun.
	Run string `json:"run"`
	// Opposites are the runs that were not complete when the run was registered. See rediswalk.UnfinishedOpposites.
	Opposites []string `json:"opposites,omitempty"`
	// Refused reports whether the run has ended with ErrWrongKeys. Its own writes must not prove its keys when it is
	// repeated.
	Refused bool `json:"refused,omitempty"`
	// Topology is the digest of a Cluster's layout when the scan began. If slots have moved since, all is scanned again.
	Topology string `json:"topology"`
	// Moves is the state when the scan of the first run began. Calls between two runs count, too.
	Moves rediswalk.DatabaseMoves `json:"moves"`
	// OldKeys is a value under Config.OldKeys, if they seal. Only the same keys open it.
	OldKeys []byte `json:"old_keys,omitempty"`
	// Positions are by the run id of each master. The counts of a master that has gone are not added.
	Positions map[string]rediswalk.Position[Counts] `json:"positions"`
	// Work holds the counts that remain correct when a master is scanned again. Rewritten is Counts.Written of discarded
	// scans.
	Work      Counts `json:"work"`
	Rewritten int64  `json:"rewritten"`
	// DataKeys are fingerprints of the data keys that this job has sealed under, where keys have no ids.
	DataKeys []string `json:"data_keys,omitempty"`
	// Excluded holds, for each prefix of Config.Exclude, whether it has matched.
	Excluded []bool        `json:"excluded,omitempty"`
	Runs     int           `json:"runs"`
	Restarts int           `json:"restarts"`
	Started  time.Time     `json:"started"`
	Updated  time.Time     `json:"updated"`
	Elapsed  time.Duration `json:"elapsed_ns"`
}

// checkpointFile is the JSON form of the file.
type checkpointFile struct {
	Format int    `json:"format"`
	Sealed []byte `json:"sealed"`
}

const (
	checkpointFormat = 3
	// checkpointName is the name to which the checkpoint is bound, with the kind wire.KeyCheck, which applications
	// cannot seal.
	checkpointName = "sealcache.checkpoint"
	maxCheckpoint  = 16 << 20
	// maxCheckpointAge bounds how long the data may have been changed by other means, such as a rollback of the application.
	maxCheckpointAge = 7 * 24 * time.Hour
)

// job is the digest of a Config and a database.
func (c *Config) job(database int, p *present) string {
	h := sha256.New()
	to := "in place"
	if c.To != nil {
		to = fmt.Sprintf("%q %q", c.To.Namespace, c.To.Prefix)
	}
	_, _ = fmt.Fprintf(h, "%v\n%q %q\n%s\n%q\n%q %v\n%v\n%d\n%v %v %d %v %d\n", c.Operation, c.From.Namespace, c.From.Prefix, to, c.As, c.Exclude,
		c.Stored, c.DeleteOld, database, p.Envelope(), p.HasID, p.ID, c.LeaveNumbers, c.MaxValueBytes)
	_, _ = fmt.Fprintf(h, "%q\n", c.hiddenDigest())
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// readCheckpoint returns nil if there is none.
func (m *migration) readCheckpoint(ctx context.Context, job string) (*checkpoint, error) {
	f, err := os.OpenFile(m.Checkpoint, os.O_RDONLY|syscall.O_NONBLOCK, 0) // does not wait for the writer of a named pipe
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("migrate: cannot read the checkpoint file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, fmt.Errorf("migrate: cannot read the checkpoint file: %w", err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%w: it is not a regular file (name another one)", ErrCheckpoint)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxCheckpoint+1))
	if err != nil {
		return nil, fmt.Errorf("migrate: cannot read the checkpoint file: %w", err)
	}
	sealed, err := parseFile(data)
	if err != nil {
		return nil, err
	}
	c, err := m.openCheckpoint(ctx, sealed)
	if err != nil {
		return nil, err
	}
	return c, m.checkCheckpoint(ctx, c, job)
}

func parseFile(data []byte) (sealed []byte, err error) {
	var file checkpointFile
	switch err := strictjson.Unmarshal(data, &file); {
	case len(data) > maxCheckpoint:
		return nil, fmt.Errorf("%w: it has more than %d bytes (name a new file to begin again)", ErrCheckpoint, maxCheckpoint)
	case err != nil:
		return nil, fmt.Errorf("%w: it does not contain the JSON that a run writes (name a new file to begin again): %w", ErrCheckpoint, err)
	case file.Format != checkpointFormat:
		return nil, fmt.Errorf("%w: it has format %d, not %d, so another release wrote it (remove the file to begin again)", ErrCheckpoint, file.Format, checkpointFormat)
	}
	return file.Sealed, nil
}

// openCheckpoint opens the sealed part of a file.
func (m *migration) openCheckpoint(ctx context.Context, sealed []byte) (*checkpoint, error) {
	plaintext, n, err := m.openOwn(ctx, m.own, sealed)
	switch {
	case errors.Is(err, wire.ErrNotSealed), errors.Is(err, wire.ErrUnsupportedFormat):
		return nil, fmt.Errorf("%w: it is damaged, or another release wrote it (remove the file to begin again)", ErrCheckpoint)
	case box.Refused(err):
		return nil, fmt.Errorf("%w: it was altered, or is of other keys or another namespace (remove it to begin again)", ErrCheckpoint)
	case err != nil:
		return nil, fmt.Errorf("migrate: cannot decrypt the checkpoint file: %w", err)
	}
	c := new(checkpoint)
	if err := strictjson.Unmarshal(plaintext, c); err != nil {
		return nil, fmt.Errorf("%w: another release wrote it (remove the file to begin again): %w", ErrCheckpoint, err)
	}
	// Vault shows the version of its key. Work under another version has to be repeated.
	if was := wire.KeyOf(sealed[n:]); was.Version != m.present.Version {
		return nil, fmt.Errorf("%w: the key service has rotated its key since the file was written (remove the file to begin again)", ErrCheckpoint)
	}
	return c, nil
}

// openOwn opens a value that a run has sealed for itself, and returns the length of its header.
func (m *migration) openOwn(ctx context.Context, b *box.Box, sealed []byte) (plaintext []byte, n int, err error) {
	if _, n, err = b.Parse(sealed); err != nil {
		return nil, 0, err
	}
	err = m.ask(ctx, func(ctx context.Context) (err error) {
		plaintext, err = b.Open(ctx, sealed, n, false, checkpointName)
		return err
	})
	return plaintext, n, err
}

// ownBox seals and opens the values that a run keeps for itself. It is bound to the namespace of the target.
func (m *migration) ownBox(a tink.AEADWithContext) (*box.Box, error) {
	return box.New(a, wire.KeyCheck, m.target().Namespace)
}

// checkCheckpoint refuses a checkpoint of another job, and one that is out of date.
func (m *migration) checkCheckpoint(ctx context.Context, c *checkpoint, job string) error {
	if c.Job != job {
		return fmt.Errorf("%w: the run that wrote it had another operation, setting, database or key (remove it to begin again)", ErrCheckpoint)
	}
	if age := time.Since(c.Updated); age > maxCheckpointAge || age < -time.Hour {
		return fmt.Errorf("%w: it is over %d days old, or its time is in the future (remove the file to begin again)", ErrCheckpoint, maxCheckpointAge/(24*time.Hour))
	}
	if len(c.OldKeys) > 0 && m.OldKeys != nil {
		b, err := m.ownBox(m.OldKeys)
		if err != nil {
			return fmt.Errorf("migrate: cannot compare the old encryption keys with those of the run that wrote the checkpoint: %w", err)
		}
		switch _, _, err := m.openOwn(ctx, b, c.OldKeys); {
		case box.Refused(err):
			return fmt.Errorf("%w: the run that wrote it had different old keys (check Config.OldKeys)", ErrCheckpoint)
		case err != nil:
			return fmt.Errorf("migrate: cannot compare the old encryption keys with those of the run that wrote the checkpoint: %w", err)
		}
	}
	err := m.walk.Retry(ctx, accessRuns, func(ctx context.Context) error { return m.servers.CheckRun(ctx, c.Run) })
	switch {
	case errors.Is(err, rediswalk.ErrRunUndone):
		return fmt.Errorf("%w: %w", ErrCheckpoint, err)
	case err != nil:
		return fmt.Errorf("migrate: a run wrote the checkpoint file, but the record of that run in Redis cannot be read: %w", err)
	}
	return nil
}

// oldKeysProof is a value under OldKeys, nil if they do not seal.
func (m *migration) oldKeysProof(ctx context.Context) []byte {
	if m.OldKeys == nil {
		return nil
	}
	b, err := m.ownBox(m.OldKeys)
	if err != nil {
		return nil
	}
	sealed, err := b.Seal(ctx, nil, wire.Header{Type: wire.Bytes}, []byte(checkpointName), checkpointName)
	if err != nil {
		return nil
	}
	return sealed
}

// writeCheckpoint seals and writes the file.
func (m *migration) writeCheckpoint(ctx context.Context) error {
	plaintext, err := json.Marshal(m.snapshot())
	var sealed, data []byte
	if err == nil {
		sealed, err = m.own.Seal(ctx, nil, wire.Header{Type: wire.JSON}, plaintext, checkpointName)
	}
	if err == nil {
		data, err = json.Marshal(checkpointFile{checkpointFormat, sealed})
	}
	if err != nil {
		return fmt.Errorf("migrate: cannot encrypt the checkpoint file: %w", err)
	}
	return unwritable(replaceFile(m.Checkpoint, append(data, '\n')))
}

func unwritable(err error) error {
	if err == nil || errors.Is(err, ErrCheckpoint) {
		return err
	}
	return fmt.Errorf("migrate: %w: %w (free space or correct its path, and repeat the run)", errUnwritable, err)
}

var errUnwritable = errors.New("cannot write the checkpoint file")

// replaceFile replaces a file as a whole, so that a kill at any moment leaves the old one or the new one. An error names path,
// and not the temporary file.
func replaceFile(path string, data []byte) (err error) {
	defer func() { err = atPath(path, err) }()
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	return err
}

// atPath makes the error of a file next to path one of path.
func atPath(path string, err error) error {
	var of *fs.PathError
	var link *os.LinkError
	switch {
	case errors.As(err, &of):
		return &fs.PathError{Op: of.Op, Path: path, Err: of.Err}
	case errors.As(err, &link):
		return &fs.PathError{Op: link.Op, Path: path, Err: link.Err}
	}
	return err
}

// removeCheckpoint removes the file, and what killed runs left of it.
func removeCheckpoint(path string) error {
	if entries, err := os.ReadDir(filepath.Dir(path)); err == nil {
		for _, e := range entries {
			middle, ok := strings.CutPrefix(e.Name(), filepath.Base(path)+".")
			if middle, tmp := strings.CutSuffix(middle, ".tmp"); ok && tmp && strings.Trim(middle, "0123456789") == "" {
				_ = os.Remove(filepath.Join(filepath.Dir(path), e.Name()))
			}
		}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("migrate: all entries are done, but removing the checkpoint file failed: %w (allow it; repeat the run to record its end)", err)
	}
	return nil
}
