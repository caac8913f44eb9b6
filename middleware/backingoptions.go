package middleware

import (
	"errors"
	"time"

	"github.com/eko/gocache/lib/v4/store"
)

// gocache's options are functions that a store applies in order after its own
// defaults. The last one sees the merged result and can rewrite it.

// A writePlan is the merged result of the options of a write.
type writePlan struct {
	options []store.Option // for the backing store
	ttl     time.Duration  // from the defaults and the options; 0 no expiry
	tags    []string       // as the application names them
}

// prepareOptions makes the plan of a call without options.
func (s *Store) prepareOptions() error {
	if d := s.can.defaulter; d != nil {
		s.defaults = d.Defaults()
	}
	s.defaults = *store.ApplyOptionsWithDefault(&s.defaults, s.cfg.defaults...)
	var err error
	s.plan, err = s.makePlan(s.defaults, s.cfg.defaults)
	return err
}

// planWrite returns the plan of a call with options: the defaults, the options of
// the call, then the one that rewrites.
func (s *Store) planWrite(options []store.Option) (writePlan, error) {
	if len(options) == 0 {
		return s.plan, nil
	}
	for _, o := range options {
		if o == nil {
			return writePlan{}, errors.New("middleware: a store.Option that the caller gave is nil")
		}
	}
	merged := *store.ApplyOptionsWithDefault(&s.defaults, options...)
	pass := make([]store.Option, 0, len(s.cfg.defaults)+len(options)+2)
	pass = append(pass, s.cfg.defaults...)
	pass = append(pass, options...)
	return s.makePlan(merged, pass)
}

func (s *Store) makePlan(merged store.Options, pass []store.Option) (writePlan, error) {
	ttl, err := normalExpiration(merged.Expiration)
	if err != nil {
		return writePlan{}, err
	}
	pass = pass[:len(pass):len(pass)]
	if ttl != merged.Expiration {
		pass = append(pass, store.WithExpiration(ttl))
	}
	if s.prefix != "" || s.names != nil || s.traits != (traits{}) {
		tags, err := s.storedTags(0, merged.Tags)
		if err != nil {
			return writePlan{}, err
		}
		known := merged.Tags
		pass = append(pass, func(o *store.Options) {
			if len(known) == 0 && len(o.Tags) > 0 { // defaults that the backing store does not declare
				o.Tags, _ = s.storedTags(0, o.Tags) // nil if that fails: no plain tag gets out
			} else {
				o.Tags = tags
			}
			o.Expiration = s.traits.expiration(o.Expiration, s.cfg.now)
		})
	}
	return writePlan{options: pass, ttl: ttl, tags: merged.Tags}, nil
}
