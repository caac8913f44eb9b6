package fxmodule

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxYAMLBytes bounds a settings file: 1 MiB.
const maxYAMLBytes = 1 << 20

// ConfigFromYAML reads the Config from one YAML document; the package comment has an example. Unknown and repeated
// settings, further documents and merge keys are errors, and so are durations without a unit. Errors name lines and
// settings and repeat no value. The result is checked as Validate does.
func ConfigFromYAML(r io.Reader) (Config, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxYAMLBytes+1))
	if err != nil {
		return Config{}, fmt.Errorf("fxmodule: YAML: %w", err)
	}
	if len(data) > maxYAMLBytes {
		return Config{}, fmt.Errorf("fxmodule: YAML: more than %d bytes", maxYAMLBytes)
	}
	d := yaml.NewDecoder(bytes.NewReader(data))
	var document yaml.Node
	switch err := d.Decode(&document); {
	case errors.Is(err, io.EOF):
		return Config{}, errors.New("fxmodule: YAML: it is empty")
	case err != nil:
		return Config{}, fmt.Errorf("fxmodule: YAML: %w", syntaxError(err))
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return Config{}, errors.New("fxmodule: YAML: something follows the first document")
	}
	var c Config
	if err := c.UnmarshalYAML(&document); err != nil {
		return Config{}, err
	}
	if err := c.Validate(); err != nil {
		return Config{}, err
	}
	return c, nil
}

// syntaxError keeps only the line of a parser's error, whose text may quote the file.
func syntaxError(err error) error {
	line := regexp.MustCompile(`line \d+`).FindString(err.Error())
	if line == "" {
		return errors.New("it is not well formed")
	}
	return fmt.Errorf("%s: it is not well formed", line)
}

// UnmarshalYAML reads the Config where it is a part of an application's own settings, as strictly as ConfigFromYAML.
// It does not Validate; the module does.
func (c *Config) UnmarshalYAML(n *yaml.Node) error {
	*c = Config{}
	var r yamlReader
	for _, e := range r.mapping("", n) {
		switch e.key {
		case "caches":
			for _, entry := range r.mapping("caches.", e.value) {
				if _, twice := c.Caches[entry.key]; twice {
					continue // said already
				}
				var cache Cache
				readSettings(&r, "caches."+entry.key+".", entry.value, cacheSettings(), &cache)
				if c.Caches == nil {
					c.Caches = make(map[string]Cache)
				}
				c.Caches[entry.key] = cache
			}
		case "jobs":
			readSettings(&r, "jobs.", e.value, jobsSettings(), &c.Jobs)
		default:
			readSetting(&r, "", e, configSettings(), c, "caches, jobs, ")
		}
	}
	if err := errors.Join(r.errs...); err != nil {
		return fmt.Errorf("fxmodule: YAML: %w", err)
	}
	return nil
}

// yamlReader walks the nodes itself: the library's own decoding takes 30 for a duration of 30 ns, forgets about
// unknown fields below an UnmarshalYAML, and quotes values in its errors.
type yamlReader struct{ errs []error }

type yamlEntry struct {
	key   string
	value *yaml.Node
}

func (r *yamlReader) fail(n *yaml.Node, path, format string, args ...any) {
	where := fmt.Sprintf("line %d: ", n.Line)
	if path = strings.TrimSuffix(path, "."); path != "" {
		if checkName(path) != nil { // "store redis://..." with its colon forgotten
			path = "(not a name)"
		}
		where += path + ": "
	}
	r.errs = append(r.errs, fmt.Errorf("%s%w", where, fmt.Errorf(format, args...)))
}

func resolve(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind == yaml.DocumentNode && len(n.Content) == 1 {
		return resolve(n.Content[0])
	}
	return n
}

// mapping returns the entries of a mapping, without repeated ones. Null is an empty mapping.
func (r *yamlReader) mapping(path string, n *yaml.Node) []yamlEntry {
	n = resolve(n)
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return nil
	}
	if n.Kind != yaml.MappingNode {
		r.fail(n, path, "settings (name: value) are expected here")
		return nil
	}
	var entries []yamlEntry
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		switch {
		case key.Kind == yaml.ScalarNode && key.Tag == "!!merge":
			r.fail(key, path, "merge keys (<<) are not taken")
		case key.Kind != yaml.ScalarNode:
			r.fail(key, path, "a name is expected here")
		case slices.ContainsFunc(entries, func(e yamlEntry) bool { return e.key == key.Value }):
			r.fail(key, path+key.Value, "given twice")
		default:
			entries = append(entries, yamlEntry{key.Value, value})
		}
	}
	return entries
}

// readSettings reads a mapping of settings; those with a dot in their name lie one level down.
func readSettings[T any](r *yamlReader, path string, n *yaml.Node, settings []setting[T], target *T) {
	for _, e := range r.mapping(path, n) {
		if slices.ContainsFunc(settings, func(s setting[T]) bool { return strings.HasPrefix(s.name, e.key+".") }) {
			for _, below := range r.mapping(path+e.key+".", e.value) {
				below.key = e.key + "." + below.key
				readSetting(r, path, below, settings, target, "")
			}
			continue
		}
		if strings.Contains(e.key, ".") { // or it could be given in both ways
			r.fail(e.value, path+e.key, "a setting with a dot in its name is written one level down, as in data_keys: {max_age: 1h}")
			continue
		}
		readSetting(r, path, e, settings, target, "")
	}
}

func readSetting[T any](r *yamlReader, path string, e yamlEntry, settings []setting[T], target *T, alsoKnown string) {
	i := slices.IndexFunc(settings, func(s setting[T]) bool { return s.name == e.key })
	if i < 0 {
		r.fail(e.value, path+e.key, "unknown setting: known are %s", alsoKnown+namesOf(settings, func(s setting[T]) string { return s.name }))
		return
	}
	value := resolve(e.value)
	switch {
	case value.Kind == yaml.MappingNode && settings[i].put != nil:
		for _, pair := range r.mapping(path+e.key+".", value) {
			one := resolve(pair.value)
			if one.Kind != yaml.ScalarNode {
				r.fail(one, path+e.key, "a single value is expected here")
			} else if err := settings[i].put(target, pair.key, one.Value); err != nil {
				r.fail(one, path+e.key, "%w", err)
			}
		}
	case value.Kind != yaml.ScalarNode:
		r.fail(value, path+e.key, "a single value is expected here")
	case value.Tag == "!!null": // as if it were not there
	default:
		if err := settings[i].set(target, value.Value); err != nil {
			r.fail(value, path+e.key, "%w", err)
		}
	}
}
