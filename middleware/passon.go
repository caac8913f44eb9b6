package middleware

import (
	"errors"

	"github.com/eko/gocache/lib/v4/store"
)

// prepareOptions makes what every call hands to the backing store. gocache's
// options are functions that a store applies in order after its own defaults,
// so one that comes last sees the merged result and can rewrite it.
func (s *Store) prepareOptions() {
	if s.prefix != "" || s.quirks != (quirks{}) {
		s.last = func(o *store.Options) {
			o.Tags = s.prefixed(o.Tags)
			o.Expiration = s.quirks.expiration(o.Expiration, s.cfg.now)
		}
	}
	s.options = s.cfg.defaults
	if s.last != nil {
		s.options = append(s.options[:len(s.options):len(s.options)], s.last)
	}
}

// passOn returns the options for the backing store: the defaults, those of the
// call, then the one that rewrites.
func (s *Store) passOn(options []store.Option) ([]store.Option, error) {
	if len(options) == 0 {
		return s.options, nil
	}
	for _, o := range options {
		if o == nil {
			return nil, errors.New("middleware: nil store.Option")
		}
	}
	d := store.ApplyOptionsWithDefault(store.ApplyOptions(s.cfg.defaults...), options...).Expiration
	normal, err := normalExpiration(d)
	if err != nil {
		return nil, err
	}
	opts := make([]store.Option, 0, len(s.cfg.defaults)+len(options)+2)
	opts = append(opts, s.cfg.defaults...)
	opts = append(opts, options...)
	if normal != d {
		opts = append(opts, store.WithExpiration(normal))
	}
	if s.last != nil {
		opts = append(opts, s.last)
	}
	return opts, nil
}

// prefixed returns the tags under the namespace, in a slice of their own.
func (s *Store) prefixed(tags []string) []string {
	if s.prefix == "" || len(tags) == 0 {
		return tags
	}
	out := make([]string, len(tags))
	for i, t := range tags {
		out[i] = s.prefix + t
	}
	return out
}
