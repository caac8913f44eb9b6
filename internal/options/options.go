// Package options handles the options of constructors, such as middleware.WithNamespace. A constructor calls [Apply] with
// the options that it got: Apply refuses nil options and applies all others. Code that makes options from a configuration,
// such as fxmodule, calls [Given]. Given appends the option for a field of the configuration, unless the field has the
// zero value.
package options

import (
	"errors"
	"fmt"

	"github.com/sealcache/sealcache/internal/nilcheck"
)

// Apply calls apply with each option, and joins all errors. It does not call apply with a nil option: that is an error of
// its position, which begins with prefix.
func Apply[O any](prefix string, opts []O, apply func(O) error) error {
	var errs []error
	for i, o := range opts {
		if nilcheck.IsNil(o) {
			errs = append(errs, fmt.Errorf("%soption %d of %d is nil", prefix, i+1, len(opts)))
			continue
		}
		errs = append(errs, apply(o))
	}
	return errors.Join(errs...)
}

// Given appends the option of a setting to opts, unless the setting has the zero value.
func Given[O any, T comparable](opts []O, setting T, option func(T) O) []O {
	var zero T
	if setting == zero {
		return opts
	}
	return append(opts, option(setting))
}
