package middleware

import (
	"errors"
	"slices"
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
	exact   bool           // a TTLSetter needs only ttl, because the defaults of the backing store are known
}

// prepareOptions makes the plan of a call without options.
func (s *Store) prepareOptions() error {
	if d := s.can.defaulter; d != nil {
		s.defaults = d.Defaults()
	}
	s.defaults = *store.ApplyOptionsWithDefault(&s.defaults, s.cfg.defaults...)
	s.untagged = s.rewrite(nil)
	var err error
	s.plan, err = s.makePlan(s.defaults, slices.Clip(s.cfg.defaults))
	return err
}

// planWrite returns the plan of a call with options: the defaults, the options of
// the call, then the one that rewrites.
func (s *Store) planWrite(options []store.Option) (writePlan, error) {
	if len(options) == 0 {
		return s.plan, nil
	}
	merged := s.defaults
	for _, o := range options {
		if o == nil {
			return writePlan{}, errors.New("middleware: a store.Option that the caller gave is nil")
		}
		o(&merged)
	}
	pass := make([]store.Option, 0, len(s.cfg.defaults)+len(options)+2)
	pass = append(pass, s.cfg.defaults...)
	pass = append(pass, options...)
	return s.makePlan(merged, pass)
}

// makePlan makes the plan of a call with the merged options. It appends to pass, the options for the backing store.
func (s *Store) makePlan(merged store.Options, pass []store.Option) (writePlan, error) {
	ttl, err := normalExpiration(merged.Expiration)
	if err != nil {
		return writePlan{}, err
	}
	if ttl != merged.Expiration {
		pass = append(pass, store.WithExpiration(ttl))
	}
	if s.prefix != "" || s.names != nil || s.traits != (traits{}) {
		rewrite := s.untagged
		if len(merged.Tags) > 0 {
			tags, err := s.storedTags(0, merged.Tags)
			if err == nil {
				err = s.checkTags(tags)
			}
			if err != nil {
				return writePlan{}, err
			}
			rewrite = s.rewrite(tags)
		}
		pass = append(pass, rewrite)
	}
	if s.traits.joinsTags && s.can.defaulter == nil {
		pass = append([]store.Option{s.findDefaultTags}, pass...)
	}
	return writePlan{options: pass, ttl: ttl, tags: merged.Tags, exact: s.can.defaulter != nil}, nil
}

// rewrite returns the last option of a call, in which tags are the stored names of its tags.
func (s *Store) rewrite(tags []string) store.Option {
	return func(o *store.Options) {
		switch {
		case s.defaultTags.Load():
			o.Tags = nil
		case len(tags) == 0 && len(o.Tags) > 0: // defaults that the backing store does not declare
			o.Tags, _ = s.storedTags(0, o.Tags) // nil if that fails: no plain tag gets out
		default:
			o.Tags = tags
		}
		o.Expiration = s.traits.expiration(o.Expiration, s.cfg.now)
	}
}
