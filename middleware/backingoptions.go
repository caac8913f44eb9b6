package middleware

import (
	"errors"

	"github.com/eko/gocache/lib/v4/store"
)

// gocache's options are functions that a store applies in order after its own
// defaults. The last one sees the merged result and can rewrite it.

// prepareOptions makes the options that a call without options passes on.
func (s *Store) prepareOptions() {
	if s.prefix != "" || s.traits != (traits{}) {
		s.rewrite = func(o *store.Options) {
			o.Tags = s.prefixed(o.Tags)
			o.Expiration = s.traits.expiration(o.Expiration, s.cfg.now)
		}
	}
	s.options = s.cfg.defaults
	if s.rewrite != nil {
		s.options = append(s.options[:len(s.options):len(s.options)], s.rewrite)
	}
}

// backingOptions returns the options for the backing store: the defaults, those
// of the call, then the one that rewrites.
func (s *Store) backingOptions(options []store.Option) ([]store.Option, error) {
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
	if s.rewrite != nil {
		opts = append(opts, s.rewrite)
	}
	return opts, nil
}

// prefixed returns the tags under the namespace, in a new slice.
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
