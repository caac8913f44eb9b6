package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
	dataaudit "github.com/sealcache/sealcache/middleware/audit"
	"github.com/sealcache/sealcache/middleware/migrate"
)

func audit(p *program, c command, args []string) (int, error) {
	f := newFlags(p, c)
	url := f.redis()
	keys := f.keys()
	var namespaces, groups, exclude, foreign list
	prefix := f.String("prefix", "", "only stored names that begin with this `text`, as \"shop:\"; jobs are then left out (default all)")
	f.Var(&namespaces, "namespaces", "with -open: a `namespace` that values are bound to; may be repeated (or SEALCACHE_NAMESPACE)")
	f.fromEnv["namespaces"] = "SEALCACHE_NAMESPACE"
	f.Var(&exclude, "exclude", "leave stored names out that begin with this `text`, as in migrate; may be repeated")
	f.Var(&foreign, "foreign", "leave stored names out of which you know that they belong to others, with keys of their own, and that begin with this `text`; unlike -exclude it goes with -may-destroy; may be repeated")
	f.Var(&groups, "group-by", "count stored names apart that begin with this `text`; may be repeated (default by namespace)")
	open := f.Bool("open", false, "open every sealed value under -kek and -keyset, and count those that do not")
	samples := f.Int("samples", 0, "show up to this many `names` of each finding; none otherwise")
	ignore := f.Bool("ignore-other-types", false, "do not count hashes, lists and so on, which are not looked into, as a doubt")
	expect := f.String("expect", "sealed", "`what` should be there: sealed asks whether anything is in clear; clear asks whether anything is sealed, as after unseal")
	one := f.Bool("one-database", false, "leave out the other databases of the server, which are otherwise looked at too where there is no -prefix")
	replica := f.Bool("replica", false, "allow the server to be a replica, which may lack what its master has; it does not answer -may-destroy")
	mayDestroy := f.Uint("may-destroy", 0, "answer whether the key with this `id` may be destroyed, instead of -expect")
	since := f.String("not-primary-since", "", "with -may-destroy: `when` it stopped being primary, as 2030-01-31T12:00:00Z")
	reload := f.Duration("reload", 0, "with -may-destroy: longest `time` in which processes notice a new keyset; with a key service, the longest age of data keys (default 24h)")
	rate := f.Float64("rate", 0, "most names per second; 0 is no bound")
	output := f.output()
	if err := f.parse(args, 0); err != nil {
		return 0, err
	}
	if err := output.check(); err != nil {
		return 0, err
	}
	switch {
	case *expect != "sealed" && *expect != "clear":
		return 0, wrong("-expect: sealed or clear")
	case f.given("expect") && f.given("may-destroy"):
		return 0, wrong("-expect and -may-destroy are two questions: ask one")
	}
	conditions := dataaudit.Conditions{Reload: *reload}
	if *since != "" {
		t, err := time.Parse(time.RFC3339, *since)
		if err != nil {
			return 0, wrong("-not-primary-since: not a time such as 2030-01-31T12:00:00Z")
		}
		conditions.NotPrimarySince = t
	}
	if *mayDestroy > 1<<32-1 {
		return 0, wrong("-may-destroy: key ids have 32 bits")
	}
	if !f.given("may-destroy") && (*since != "" || *reload != 0) {
		return 0, wrong("-not-primary-since and -reload go with -may-destroy")
	}
	config := dataaudit.Config{
		Prefix: *prefix, Namespaces: namespaces, GroupBy: groups, Samples: *samples, IgnoreOtherTypes: *ignore,
		Exclude: exclude, OtherApplications: foreign, OneDatabase: *one, Replica: *replica,
		Rate: *rate, Logger: p.log,
	}
	digest := ""
	if *open || f.given("may-destroy") && *keys.kek != "" {
		to := toList
		if *open {
			to = toOpen
		}
		o, err := keys.open(p.ctx, p, to)
		if err != nil {
			return 0, err
		}
		defer o.close()
		if o.ring != nil {
			conditions.Keyset, digest = o.ring.Keys(), o.digest
		}
		if *open {
			config.Keys = bothForms(o)
		}
	}
	var state *keyState
	if f.given("may-destroy") {
		state = stateOf(uint32(*mayDestroy), conditions.Keyset, digest)
	}
	client, err := openRedis(p.ctx, *url)
	if err != nil {
		return 0, err
	}
	defer client.Close()
	show, done := output.progress(p, c.name)
	if show != nil {
		config.Progress = func(s dataaudit.Progress) {
			show(migrate.Progress{
				Counts: migrate.Counts{Seen: s.Seen, Plaintext: s.Plaintext}, Fraction: s.Fraction, Elapsed: s.Elapsed,
				Rate: s.Rate, Remaining: s.Remaining, Final: s.Final,
			})
		}
	}
	report, err := dataaudit.Run(p.ctx, client, config)
	done()
	if report == nil {
		return 0, err
	}
	question := "Is anything in clear?"
	answer, reasons := report.AnythingPlaintext()
	good := dataaudit.No
	if *expect == "clear" {
		question = "Is anything sealed?"
		answer, reasons = report.AnythingSealed()
	}
	if f.given("may-destroy") {
		question = fmt.Sprintf("May key %d be destroyed?", *mayDestroy)
		answer, reasons = report.MayDestroy(uint32(*mayDestroy), conditions)
		good = dataaudit.Yes
	}
	full := auditAnswer{Report: report, Question: question, Answer: answer, Reasons: reasons, Scope: report.Scope()}
	if f.given("may-destroy") {
		id := uint32(*mayDestroy)
		full.MayDestroy, full.KeyState = &id, state
	}
	e := output.write(p, full, func(w io.Writer) error {
		if err := report.WriteText(w); err != nil {
			return err
		}
		_, err := fmt.Fprintf(w, "%s %s\n", question, strings.ToUpper(string(answer)))
		for _, r := range reasons {
			if err == nil {
				_, err = fmt.Fprintf(w, "  %s\n", r)
			}
		}
		if state != nil && answer == dataaudit.Yes && state.Status != statusDisabled && err == nil {
			_, err = fmt.Fprintf(w, "  It is not disabled: for \"sealcache keys destroy -audited\", disable it and audit again\n")
		}
		return err
	})
	switch {
	case err != nil:
		return 0, err
	case e != nil:
		return 0, e
	case answer == good:
		return exitDone, nil
	case answer == dataaudit.Unknown:
		return exitUnknown, nil
	default:
		return exitLeft, nil
	}
}

// auditAnswer is the JSON report of an audit.
type auditAnswer struct {
	*dataaudit.Report
	Question   string           `json:"question"`
	MayDestroy *uint32          `json:"may_destroy,omitempty"` // the key that the question is about
	KeyState   *keyState        `json:"key_state,omitempty"`   // of that key
	Answer     dataaudit.Answer `json:"answer"`
	Reasons    []string         `json:"reasons,omitempty"`
	Scope      string           `json:"scope"`
}

// keyState is what the keyset said of a key when an audit began.
type keyState struct {
	Status  string `json:"status"`
	Primary uint32 `json:"primary"` // the key that was primary
	// Digest is that of the keyset's bytes, if they are sealed. It is another after every change.
	Digest string `json:"sealed_keyset_sha256,omitempty"`
}

const statusDisabled = "Disabled"

// stateOf is nil if the keyset does not hold the key.
func stateOf(id uint32, keys []aead.KeyInfo, digest string) *keyState {
	i := slices.IndexFunc(keys, func(k aead.KeyInfo) bool { return k.ID == id })
	if i < 0 {
		return nil
	}
	s := &keyState{Status: keys[i].Status.String(), Digest: digest}
	if keys[i].Status == keyset.Disabled {
		s.Status = statusDisabled
	}
	for _, k := range keys {
		if k.Primary {
			s.Primary = k.ID
		}
	}
	return s
}

// bothForms are the envelope and the keyring over the same keyset: an audit opens what either has sealed.
func bothForms(o *opened) []tink.AEADWithContext {
	keys := []tink.AEADWithContext{o.aead}
	if _, envelope := o.aead.(*aead.Envelope); envelope && o.ring != nil {
		keys = append(keys, o.ring)
	}
	return keys
}
