package migrate

import (
	"errors"
	"fmt"
	"strings"

	"github.com/tink-crypto/tink-go/v2/prf"

	"github.com/sealcache/sealcache/middleware/internal/keycheck"
	"github.com/sealcache/sealcache/middleware/internal/pseudonym"
	"github.com/sealcache/sealcache/middleware/internal/wire"
)

// prfSet is the set of PRF keys, nil if hidden names stay as they are.
func (c *Config) prfSet() *prf.Set {
	if c.OneWayKeys != nil {
		return c.OneWayKeys
	}
	return c.HiddenKeys
}

// hides reports whether names get the pseudonyms of the primary PRF key, or lose them.
func (c *Config) hides() bool { return c.prfSet() != nil }

func (c *Config) checkHidden() (errs []error) {
	if !c.hides() {
		return nil
	}
	bad := func(text string) { errs = append(errs, errors.New(text)) }
	if c.HiddenKeys != nil && c.OneWayKeys != nil {
		bad("Config.HiddenKeys and Config.OneWayKeys cannot be combined")
	}
	if _, err := pseudonym.New("", c.prfSet()); err != nil {
		bad(err.Error())
	}
	if c.To != nil && c.To.Namespace == c.From.Namespace {
		bad("Config.To.Namespace must differ from Config.From.Namespace, because names are hidden")
	}
	if c.OneWayKeys == nil {
		if c.To != nil && c.HiddenKeys != nil && len(c.HiddenKeys.PRFs) > 1 { // an entry under each could get the same name
			bad("Config.HiddenKeys has several enabled keys (run without Config.To first, then disable the older keys)")
		}
		return errs
	}
	if c.Operation == Unseal {
		bad("unseal cannot restore names that Config.OneWayKeys hides, because Redis does not hold them")
	}
	if c.filters() {
		bad("one-way names cannot be selected by prefix (unset Config.From.Prefix, Config.Exclude)")
	}
	return errs
}

// filters reports whether keys decide which entries are changed.
func (c *Config) filters() bool { return c.From.Prefix != "" || len(c.Exclude) > 0 }

// hiddenDigest returns a text that differs between sets of PRF keys.
func (c *Config) hiddenDigest() []string {
	if !c.hides() {
		return nil
	}
	names, err := pseudonym.New(c.From.Namespace, c.prfSet())
	if err != nil {
		return nil // checkHidden has refused the set
	}
	all, _ := names.All(keycheck.Name) // a PRF that pseudonym.New has called does not fail
	return append([]string{fmt.Sprint(c.OneWayKeys != nil)}, all...)
}

// hiddenNames makes the pseudonyms of a run.
type hiddenNames struct {
	from, to *pseudonym.Set
	oneWay   bool
}

// newHiddenNames returns nil if hidden names stay as they are.
func newHiddenNames(c *Config) (*hiddenNames, error) {
	if !c.hides() {
		return nil, nil //nolint:nilnil // see above
	}
	from, err := pseudonym.New(c.From.Namespace, c.prfSet())
	if err != nil {
		return nil, err
	}
	to, err := pseudonym.New(c.target().Namespace, c.prfSet())
	return &hiddenNames{from, to, c.OneWayKeys != nil}, err
}

// all returns the hidden names of a key in the namespace of the target, or else in that of the source. There is one for each
// PRF key.
func (n *hiddenNames) all(target bool, key string) ([]string, error) {
	set := n.from
	if target {
		set = n.to
	}
	return set.All(key)
}

// flags are those of a hidden name.
func (n *hiddenNames) flags() wire.Flags {
	if n.oneWay {
		return wire.Hidden
	}
	return wire.Hidden | wire.Named
}

// placeOf classifies a stored name by its form. Only the value shows whether the name is hidden, and for which key.
// So the place of a name that may be hidden has no target yet.
func (m *migration) placeOf(stored string) (place, nameVerdict) {
	if m.names == nil {
		return m.locate(m.exclude, stored)
	}
	key, ok := strings.CutPrefix(stored, m.From.namespace())
	if !ok {
		return place{}, nameOutside
	}
	if reserved(stored) {
		return place{}, nameReserved
	}
	if pseudonym.Is(key) {
		return place{key: key}, nameTaken
	}
	p, _, v := m.resolve(key)
	p.key = key
	return p, v
}

// resolve returns where the entry of an application's key belongs, and its key in the target. The verdict reports whether
// the filters include the key.
func (m *migration) resolve(key string) (p place, to string, verdict nameVerdict) {
	rest, ok := strings.CutPrefix(key, m.From.Prefix)
	if !ok {
		return place{}, "", nameOutside
	}
	if m.exclude.Match(m.From.namespace() + key) {
		return place{}, "", nameExcluded
	}
	to = key
	if m.To != nil {
		to = m.To.Prefix + rest
	}
	p.toKey = to
	if m.Operation != Unseal {
		hidden, err := m.names.to.AppendKey(nil, 0, to)
		if err != nil {
			return place{}, "", nameOutside // a PRF that answered at the start does not fail
		}
		p.toKey = string(hidden)
	}
	p.to = m.target().namespace() + p.toKey
	return p, to, nameTaken
}

// movesHiddenTag returns the name of a tag set for the hidden names of its members.
func (m *migration) movesHiddenTag(tag string) (string, bool) {
	tag, ok := m.plainTag(tag)
	if !ok {
		return "", false
	}
	set, err := m.tagSet(m.names.to, m.target().namespace(), 0, tag)
	return set, err == nil
}

// plainTag returns the application's name of a tag that is stored under a plain name.
func (m *migration) plainTag(stored string) (string, bool) {
	tag, ok := strings.CutPrefix(stored, m.From.namespace())
	return tag, ok || m.adoptsTags()
}

// tagSet returns the name of the set of a hidden tag.
func (m *migration) tagSet(names *pseudonym.Set, namespace string, i int, tag string) (string, error) {
	set, err := names.AppendTag([]byte(tagPrefix+namespace), i, tag)
	if err != nil {
		return "", fmt.Errorf("migrate: cannot compute the hidden name of a tag: %w", err)
	}
	return string(set), nil
}
