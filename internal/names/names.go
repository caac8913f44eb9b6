// Package names contains the rules for names, and the reserved names, that several packages of this module share:
//
//   - [Check] checks the name of a namespace, a cache or a keyset, and [CheckTenant] the id of a tenant.
//   - [Group] returns the start of a stored name (a key in Redis) that can be a namespace, such as "shop:".
//   - [JSON] returns the form of a stored name in JSON reports.
//   - [KeyCheck], [Asynq] and [TagSets] are names and prefixes that are reserved.
//
// The package imports only the standard library.
package names

import (
	"errors"
	"fmt"
	"strings"
)

const (
	// MaxBytes bounds the length of a name that Check accepts.
	MaxBytes = 64
	// KeyCheck is the name, within a namespace, of the entry that tests the keys.
	KeyCheck = "sealcache.key-check"
	// Asynq is the namespace of asynq's own keys.
	Asynq = "asynq"
	// TagSets starts the names of tag sets, in gocache's Redis store and in redisstore, so that the two stores share tags.
	TagSets = "gocache_tag_"
)

// Check returns an error unless name is 1 to 64 letters, digits, and "_", ".", "-". what starts the error, as in "the
// namespace". The error does not quote name, because a setting may hold a secret by mistake.
func Check(what, name string) error {
	if name == "" || len(name) > MaxBytes {
		return fmt.Errorf("%s has %d bytes (1 to %d are allowed)", what, len(name), MaxBytes)
	}
	for i := range len(name) {
		if c := name[i]; !alphanumeric(c) && c != '_' && c != '.' && c != '-' {
			return fmt.Errorf("%s has the byte %q at position %d (allowed are A-Z a-z 0-9 _ . -)", what, name[i:i+1], i)
		}
	}
	return nil
}

// CheckTenant returns an error unless id is a name that begins with a letter or digit, so that it is never "..".
func CheckTenant(id string) error {
	if err := Check("the tenant id", id); err != nil {
		return err
	}
	if !alphanumeric(id[0]) {
		return errors.New("the tenant id must begin with a letter or digit")
	}
	return nil
}

func alphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// Group returns the start of a stored name, up to and with the first colon. ok is false if the start does not look like a
// namespace: it may then be a whole name.
func Group(stored string) (prefix string, ok bool) {
	first, _, found := strings.Cut(stored, ":")
	if !found || Check("the namespace", first) != nil {
		return "", false
	}
	return first + ":", true
}
