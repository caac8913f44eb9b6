package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/term"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/internal/names"
	"github.com/sealcache/sealcache/internal/rediserr"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/middleware/audit"
)

// entryFlags name one entry.
type entryFlags struct {
	redis     redisFlag
	namespace string
	json      bool
}

func (e *entryFlags) declare(f *flags) {
	e.redis.declare(f)
	f.env(&e.namespace, "namespace", "SEALCACHE_NAMESPACE", "`NAMESPACE` of the application's cache; '' if KEY is the name in Redis")
}

// check refuses a namespace that no cache can have.
func (e *entryFlags) check(f *flags) error {
	if e.namespace == "" {
		return nil
	}
	if err := middleware.CheckNamespace(e.namespace); err != nil {
		return wrong("--namespace%s: %w", f.namespaceSource(), err)
	}
	return nil
}

// stored returns the name in Redis of a key, which may be a pseudonym.
func (e *entryFlags) stored(key string) string { return start(e.namespace) + key }

// failed gives an error of a look at one entry its status, and says which names were looked up. The last of these keys gave
// the error.
func (e *entryFlags) failed(f *flags, keys []string, err error) error {
	name := e.stored(keys[len(keys)-1])
	switch {
	case errors.Is(err, audit.ErrNoEntry):
		where := ""
		if e.namespace != "" {
			where = fmt.Sprintf(" (KEY was looked up in the namespace %q%s)", e.namespace, f.namespaceSource())
		}
		names := make([]string, len(keys))
		for i, key := range keys {
			names[i] = strconv.Quote(e.stored(key))
		}
		return &statusError{exitLeft, fmt.Errorf("no entry in Redis has the name %s%s", strings.Join(names, " or "), where)}
	case errors.Is(err, audit.ErrExpired):
		return &statusError{exitLeft, fmt.Errorf("the entry %q has expired: the expiry time that is sealed in the value has passed", name)}
	case refusedByKey(err):
		return &statusError{exitLeft, fmt.Errorf("the entry %q cannot be opened with the given encryption keys: %w", name, err)}
	case rediserr.Code(err) == "WRONGTYPE":
		return &statusError{exitLeft, fmt.Errorf("the entry %q is not a string (\"sealcache inspect\" shows its type)", name)}
	default:
		return fmt.Errorf("look up the entry %q: %w", name, err)
	}
}

// unanswered reports whether a key gave no answer. The error may join the refusal of another key.
func unanswered(err error) bool {
	targets := []error{aead.ErrKeyServiceUnavailable, aead.ErrTooManyDataKeys, aead.ErrClosed, context.Canceled, context.DeadlineExceeded}
	return slices.ContainsFunc(targets, func(target error) bool { return errors.Is(err, target) })
}

// refusedByKey reports whether a key refused to open something.
func refusedByKey(err error) bool {
	return !unanswered(err) && (errors.Is(err, aead.ErrUnauthentic) || errors.Is(err, aead.ErrUnknownKey))
}

// inspectCommand is "inspect".
type inspectCommand struct {
	entryFlags
	hidden prfFlags
	kek    string
	others []string
}

func (i *inspectCommand) declare(f *flags) {
	i.entryFlags.declare(f)
	i.hidden.declare(f)
	f.env(&i.kek, "kek", "SEALCACHE_KEK", "`URI` of the key-encryption key, for --hidden-keys and --one-way-keys only")
	f.otherKEKs(&i.others)
	f.BoolVar(&i.json, "json", false, jsonUse)
}

func (i *inspectCommand) run(ctx context.Context, p *program, f *flags) (int, error) {
	if err := errors.Join(i.check(f), i.hidden.check(i.kek, false)); err != nil {
		return 0, err
	}
	if !i.hidden.given() {
		if err := f.refuseWithout("--hidden-keys or --one-way-keys", "kek", "other-kek"); err != nil {
			return 0, err
		}
	}
	keys, err := i.hidden.names(ctx, p, i.kek, i.others, i.namespace, f.args[0])
	if err != nil {
		return 0, err
	}
	client, err := i.redis.open(ctx)
	if err != nil {
		return 0, err
	}
	defer client.Close()
	keys, entry, err := firstEntry(keys, func(key string) (*audit.Entry, error) { return audit.Inspect(ctx, client, i.stored(key)) })
	if err != nil {
		return 0, i.failed(f, keys, err)
	}
	name := i.stored(keys[len(keys)-1])
	h := newHeader(f).at(&i.redis, client, nil)
	if i.json {
		data, err := merge(struct {
			header
			Name string `json:"name"`
		}{h, names.JSON(name)}, entry)
		if err == nil {
			_, err = p.stdout.Write(data)
		}
		return exitDone, err
	}
	_, err = p.stdout.Write(entryText(h, name, entry))
	return exitDone, err
}

func entryText(h header, name string, entry *audit.Entry) []byte {
	w := &bytes.Buffer{}
	line := func(name string, value any) { fmt.Fprintf(w, "%-12s %v\n", name, value) }
	fmt.Fprintln(w, h)
	line("name", fmt.Sprintf("%q", name))
	line("form", entry.Form)
	line("type", entry.Type)
	line("bytes", entry.Bytes)
	if entry.TTL == 0 {
		line("expires", "never")
	} else {
		line("expires in", entry.TTL)
	}
	if i := entry.Info; i != nil {
		line("format", i.Version)
		line("kind", i.Kind)
		line("value", i.Type)
		switch {
		case i.Hidden && i.Named:
			line("hidden name", fmt.Sprintf("under PRF key %d", i.PRFKey))
		case i.Hidden:
			line("hidden name", fmt.Sprintf("one way under PRF key %d", i.PRFKey))
		}
		if i.Key.HasID || entry.Key != "unnamed" {
			line("sealed under", entry.Key)
		} else {
			line("sealed under", "a key without an id")
		}
		if i.Key.Envelope {
			line("data key", i.Key.DataKey)
		}
		line("header", i.HeaderBytes)
		if i.Expires {
			line("sealed expiry", i.End.UTC().Format(time.RFC3339))
		}
	}
	return w.Bytes()
}

// getCommand is "get".
type getCommand struct {
	entryFlags
	keys            dataKeyFlags
	hidden          prfFlags
	reason, record  string
	show, plaintext bool
}

func (g *getCommand) declare(f *flags) {
	g.entryFlags.declare(f)
	g.keys.declare(f)
	g.hidden.declare(f)
	f.StringVar(&g.reason, "reason", "", "`TEXT` for the access record that says why you read the value")
	f.env(&g.record, "record", recordVariable, "`FILE` to which the access record is appended before the value is opened (default: standard error)")
	f.BoolVar(&g.show, "show", false, "print the value even on a terminal")
	f.BoolVar(&g.plaintext, "plaintext", false, "print a plaintext value, too, although an attacker may have written it")
	f.BoolVar(&g.json, "json", false, jsonUse+", with the value in base64")
	f.need("kek")
	f.need("reason")
	f.file("record")
}

func (g *getCommand) run(ctx context.Context, p *program, f *flags) (int, error) {
	if out, ok := p.stdout.(*os.File); ok && term.IsTerminal(int(out.Fd())) && !g.show {
		return 0, wrong("the output is a terminal, so the value was not printed (--show prints it)")
	}
	if strings.TrimSpace(g.reason) == "" {
		return 0, wrong("--reason is blank")
	}
	if err := errors.Join(g.check(f), g.hidden.check(g.keys.kek, false)); err != nil {
		return 0, err
	}
	names, err := g.hidden.names(ctx, p, g.keys.kek, g.keys.others, g.namespace, f.args[0])
	if err != nil {
		return 0, err
	}
	keys, err := g.keys.open(ctx, p, toOpen)
	if err != nil {
		return 0, err
	}
	defer keys.close()
	client, err := g.redis.open(ctx)
	if err != nil {
		return 0, err
	}
	defer client.Close()
	if err := g.newRecord(f, client, keys).write(p, g.record); err != nil {
		return 0, fmt.Errorf("the entry was not opened, because the access record (--record) cannot be written: %w", err)
	}
	return g.open(ctx, p, f, client, keys, names)
}

func (g *getCommand) open(ctx context.Context, p *program, f *flags, client redis.UniversalClient, keys *opened, candidates []string) (int, error) {
	candidates, v, err := firstEntry(candidates, func(name string) (audit.Value, error) {
		return audit.Open(ctx, client, g.namespace, name, keys.both()...)
	})
	if err != nil {
		if refusedByKey(err) {
			sayDisabled(p, infoOf(keys.ring))
		}
		return 0, g.failed(f, candidates, err)
	}
	name := g.stored(candidates[len(candidates)-1])
	if !v.Sealed && !g.plaintext {
		return 0, &statusError{exitLeft, fmt.Errorf("the value of %q is plaintext, so it was not printed (--plaintext prints it)", name)}
	}
	if g.json {
		data, err := merge(newHeader(f).at(&g.redis, client, infoOf(keys.ring)), struct {
			Name   string `json:"name"`
			Type   string `json:"type"`
			Sealed bool   `json:"sealed"`
			Value  []byte `json:"value_base64"`
		}{names.JSON(name), v.Type, v.Sealed, v.Text})
		if err == nil {
			_, err = p.stdout.Write(data)
		}
		return exitDone, err
	}
	if name != f.args[0] {
		fmt.Fprintf(p.stderr, "the name of the entry in Redis is %q\n", name)
	}
	_, err = p.stdout.Write(v.Text)
	return exitDone, err
}

// record is one line of the record of reads. It holds a digest of the name, which is not hidden: an auditor who knows a name
// finds its lines, but a line does not show its name.
type record struct {
	Schema    int    `json:"schema"`
	Time      string `json:"time"`
	Action    string `json:"action"`
	User      string `json:"user"`
	Sudo      string `json:"sudo_user,omitempty"`
	Host      string `json:"host"`
	Server    string `json:"server"`
	Database  int    `json:"database"`
	Namespace string `json:"namespace"`
	Name      string `json:"name_sha256"`
	Reason    string `json:"reason"`

	Keys []uint32 `json:"key_ids,omitempty"` // of the keyset, if the keys are in one
}

func (g *getCommand) newRecord(f *flags, client redis.UniversalClient, keys *opened) record {
	digest := sha256.Sum256([]byte(g.stored(f.args[0])))
	r := record{
		Schema: schema, Time: time.Now().UTC().Format(time.RFC3339Nano), Action: "get", User: userName(), Sudo: os.Getenv("SUDO_USER"),
		Namespace: g.namespace, Name: hex.EncodeToString(digest[:]), Reason: g.reason,
	}
	r.Host, _ = os.Hostname()
	r.Server, r.Database = g.redis.server(client)
	for _, key := range infoOf(keys.ring) {
		r.Keys = append(r.Keys, key.ID)
	}
	return r
}

// write appends the record to a file, or writes it to standard error.
func (r record) write(p *program, path string) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	data = append(data, '\n')
	if path == "" {
		_, err = p.stderr.Write(data)
		return err
	}
	// A mistyped path must not destroy a keyset. A file of records need not be readable.
	if beginning, err := readBeginning(path); err == nil && len(beginning) > 0 && !bytes.HasPrefix(beginning, []byte(`{"schema":`)) {
		return wrong("%s exists and does not hold access records (choose another path)", path)
	}
	f, err := openRegular(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE)
	if err != nil {
		return err
	}
	return writeAndClose(f, data)
}

func userName() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return fmt.Sprint("uid ", os.Getuid())
}
