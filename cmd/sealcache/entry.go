package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/user"
	"time"

	"golang.org/x/term"

	dataaudit "github.com/sealcache/sealcache/middleware/audit"
)

func inspect(p *program, c command, args []string) (int, error) {
	f := newFlags(p, c)
	url := f.redis()
	namespace := f.env("namespace", "SEALCACHE_NAMESPACE", "`namespace` of the application's store")
	asJSON := f.Bool("json", false, "print JSON")
	if err := f.parse(args, 1); err != nil {
		return 0, err
	}
	client, err := openRedis(p.ctx, *url)
	if err != nil {
		return 0, err
	}
	defer client.Close()
	entry, err := dataaudit.Inspect(p.ctx, client, storedName(*namespace, f.Arg(0)))
	if err != nil {
		return 0, err
	}
	if *asJSON {
		return exitDone, writeJSON(p, "-", entry)
	}
	w := &bytes.Buffer{}
	line := func(name string, value any) { fmt.Fprintf(w, "%-12s %v\n", name, value) }
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
		line("sealed under", entry.Key)
		if i.Key.Envelope {
			line("data key", i.Key.DataKey)
		}
		line("header", i.HeaderBytes)
	}
	_, err = p.stdout.Write(w.Bytes())
	return exitDone, err
}

func storedName(namespace, key string) string {
	if namespace == "" {
		return key
	}
	return namespace + ":" + key
}

// record is one line of the record of who looked at what. The name of the key is in it as a digest: who has the name finds
// the line, who has the record does not find the name.
type record struct {
	Time      string `json:"time"`
	Action    string `json:"action"`
	User      string `json:"user"`
	Sudo      string `json:"sudo_user,omitempty"`
	Host      string `json:"host"`
	Namespace string `json:"namespace"`
	Name      string `json:"name_sha256"`
	Reason    string `json:"reason"`
}

// write appends the record to a file, or writes it to the terminal.
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
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

func get(p *program, c command, args []string) (int, error) {
	f := newFlags(p, c)
	url := f.redis()
	keys := f.keys()
	namespace := f.env("namespace", "SEALCACHE_NAMESPACE", "`namespace` of the application's store")
	reason := f.String("reason", "", "`why`: it goes into the record")
	log := f.env("record", "SEALCACHE_RECORD", "append who looked at what to this `file`, before anything is opened; otherwise to the terminal")
	show := f.Bool("show", false, "write the value even to a terminal")
	tolerate := f.Bool("clear", false, "write a value that is in clear, which nothing vouches for, too")
	if err := f.parse(args, 1); err != nil {
		return 0, err
	}
	if *reason == "" {
		return 0, wrong("-reason is missing")
	}
	if out, ok := p.stdout.(*os.File); ok && term.IsTerminal(int(out.Fd())) && !*show {
		return 0, wrong("a value is not written to a terminal: send the output somewhere, or give -show")
	}
	o, err := keys.open(p.ctx, p, toOpen)
	if err != nil {
		return 0, err
	}
	defer o.close()
	client, err := openRedis(p.ctx, *url)
	if err != nil {
		return 0, err
	}
	defer client.Close()
	digest := sha256.Sum256([]byte(storedName(*namespace, f.Arg(0))))
	r := record{
		Time: time.Now().UTC().Format(time.RFC3339Nano), Action: "get", User: userName(), Sudo: os.Getenv("SUDO_USER"),
		Namespace: *namespace, Name: hex.EncodeToString(digest[:]), Reason: *reason,
	}
	r.Host, _ = os.Hostname()
	if err := r.write(p, *log); err != nil {
		return 0, fmt.Errorf("the record cannot be written, so nothing is opened: %w", err)
	}
	v, err := dataaudit.Open(p.ctx, client, *namespace, f.Arg(0), bothForms(o)...)
	if err != nil {
		return 0, err
	}
	if !v.Sealed && !*tolerate {
		return 0, errors.New("the entry is in clear, and anybody may have written it; -clear writes it nevertheless")
	}
	_, err = p.stdout.Write(v.Text)
	return exitDone, err
}

func userName() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return fmt.Sprint("uid ", os.Getuid())
}
