package migrate

import (
	"bytes"
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
	"time"

	"github.com/sealcache/sealcache/middleware/internal/cachevalue"
	"github.com/sealcache/sealcache/middleware/internal/rediswalk"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// checkpoint is what a run leaves for the next one.
type checkpoint struct {
	Format int `json:"format"`
	// Job is a digest of what decides which entries are written and how. Another job must not go on from here.
	Job string `json:"job"`
	// Topology is the digest of a Cluster's layout when the scan began. If slots have moved since, all is scanned again.
	Topology string `json:"topology"`
	// Proof shows that the keys are those of the job.
	Proof proof `json:"proof"`
	// Positions by the run id of each master.
	Positions map[string]rediswalk.Position `json:"positions"`
	// DataKeys are fingerprints of the data keys that this job has sealed under, where keys have no ids.
	DataKeys []string      `json:"data_keys,omitempty"`
	Runs     int           `json:"runs"`
	Restarts int           `json:"restarts"`
	Started  time.Time     `json:"started"`
	Elapsed  time.Duration `json:"elapsed_ns"`
	Counts   Counts        `json:"counts"`
}

const checkpointFormat = 2

// proof are values that were sealed under Config.Keys, and under OldKeys if they seal: only the same keys open them.
// What the keys show of themselves need not tell them from others.
type proof struct {
	Keys []byte `json:"keys"`
	Old  []byte `json:"old_keys,omitempty"`
}

const proofName = "sealcache checkpoint"

func (m *migration) prove(ctx context.Context) (proof, error) {
	var ad []byte
	var p proof
	var err error
	if p.Keys, err = m.seals.Seal(ctx, nil, &ad, proofName, wire.Bytes, []byte(proofName)); err != nil {
		return proof{}, err
	}
	if m.OldKeys != nil {
		// It may be that they are for opening only. Then what is found under others is counted all the same.
		p.Old, err = cachevalue.NewSealer(m.OldKeys, m.target().Namespace).Seal(ctx, nil, &ad, proofName, wire.Bytes, []byte(proofName))
		if err != nil {
			p.Old = nil
		}
	}
	return p, nil
}

// proven sees that a proof is of the keys of this run. An error that is not ErrCheckpoint is no answer.
func (m *migration) proven(ctx context.Context, p proof) error {
	by := []*cachevalue.Sealer{m.seals}
	all := [][]byte{p.Keys}
	if len(p.Old) > 0 && m.OldKeys != nil {
		by, all = append(by, cachevalue.NewSealer(m.OldKeys, m.target().Namespace)), append(all, p.Old)
	}
	var ad []byte
	for i, sealed := range all {
		_, n, ok := cachevalue.Header(sealed)
		if !ok {
			return fmt.Errorf("%w: it holds no proof of its keys", ErrCheckpoint)
		}
		switch _, err := by[i].Open(ctx, &ad, proofName, sealed, n); {
		case err != nil && cachevalue.Refused(err):
			return fmt.Errorf("%w: the keys, or the old keys, differ", ErrCheckpoint)
		case err != nil:
			return err
		}
	}
	// Vault shows the version of its key. What was done under another one has to be done again.
	now, err := m.prove(ctx)
	if err != nil {
		return err
	}
	if was, is := cachevalue.KeyOf(p.Keys[wire.HeaderSize:]), cachevalue.KeyOf(now.Keys[wire.HeaderSize:]); was != is && is.IsVault() {
		return fmt.Errorf("%w: the key service has rotated its key", ErrCheckpoint)
	}
	return nil
}

// maxCheckpoint bounds what is read.
const maxCheckpoint = 16 << 20

// ErrCheckpoint says that a checkpoint file is of another job, or is none. Give another file, or remove it to begin anew.
var ErrCheckpoint = errors.New("migrate: the checkpoint is not one of this job")

// job is the digest of a Config and a database.
func (c *Config) job(database int, p *present) string {
	h := sha256.New()
	to := "in place"
	if c.To != nil {
		to = fmt.Sprintf("%q %q", c.To.Namespace, c.To.Prefix)
	}
	_, _ = fmt.Fprintf(h, "%v\n%q %q\n%s\n%q\n%q\n%v\n%d\n%v %v %d %v\n", c.Operation, c.From.Namespace, c.From.Prefix, to, c.As, c.Exclude,
		c.DeleteOld, database, p.Envelope, p.HasKeyID, p.KeyID, c.LeaveNumbers)
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// readCheckpoint returns nil if there is none.
func readCheckpoint(path, job string) (*checkpoint, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("migrate: checkpoint: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxCheckpoint+1))
	if err != nil {
		return nil, fmt.Errorf("migrate: checkpoint: %w", err)
	}
	return parseCheckpoint(data, job)
}

func parseCheckpoint(data []byte, job string) (*checkpoint, error) {
	if len(data) > maxCheckpoint {
		return nil, fmt.Errorf("%w: too large", ErrCheckpoint)
	}
	c := new(checkpoint)
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(c); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCheckpoint, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: something follows it", ErrCheckpoint)
	}
	if c.Format != checkpointFormat {
		return nil, fmt.Errorf("%w: of format %d, not %d", ErrCheckpoint, c.Format, checkpointFormat)
	}
	if c.Job != job {
		return nil, fmt.Errorf("%w: operation, names, options, database or primary key differ", ErrCheckpoint)
	}
	return c, nil
}

// write replaces the file as a whole, so that a kill at any moment leaves the old one or the new one.
func (c *checkpoint) write(path string) (err error) {
	data, err := json.MarshalIndent(c, "", "\t")
	if err != nil {
		return fmt.Errorf("migrate: checkpoint: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp")
	if err != nil {
		return fmt.Errorf("migrate: checkpoint: %w", err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
			err = fmt.Errorf("migrate: checkpoint: %w", err)
		}
	}()
	_, err = f.Write(append(data, '\n'))
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

// removeCheckpoint removes the file, and what killed runs left of it.
func removeCheckpoint(path string) error {
	if old, err := filepath.Glob(globLiteral(path) + ".*.tmp"); err == nil {
		for _, f := range old {
			_ = os.Remove(f)
		}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("migrate: checkpoint: %w", err)
	}
	return nil
}

// globLiteral escapes what means something in a pattern of filepath.Glob.
func globLiteral(path string) string {
	if filepath.Separator == '\\' {
		return path // there is no escaping on Windows
	}
	return rediswalk.Literal(path)
}
