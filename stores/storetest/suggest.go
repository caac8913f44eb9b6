package storetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/eko/gocache/lib/v4/store"

	"github.com/sealcache/sealcache/internal/nilcheck"
)

// suggestion returns a declaration for a store that has none, from the results of a few calls.
func suggestion(ctx context.Context, s store.StoreInterface) string {
	if nilcheck.IsNil(s) {
		return ""
	}
	p := prober{ctx: ctx, store: s}
	var b strings.Builder
	b.WriteString("\nCalls to the store suggest the value of Subject.Can below. They cannot detect Sealed, ScopedClear, ConcurrentTags, MaxValueBytes, " +
		"MaxKeyBytes, and most fields of TTL: add those that apply. Then run the test again.\n\n\tCan: storetest.Capabilities{\n")
	for _, form := range []struct {
		name  string
		value any
	}{{"Bytes", []byte("12")}, {"Strings", "12"}, {"Scalars", 12}} {
		fmt.Fprintf(&b, "\t\t%s: storetest.%s,\n", form.name, p.form(form.value))
	}
	for _, c := range []struct {
		name  string
		holds func() bool
	}{
		{"CopiesBytes", p.copies},
		{"AnyKey", func() bool { return p.holds("") && p.holds("\x00\r\n\xff ") }},
		{"KeyErrors", func() bool { _, err := s.Get(ctx, 1); return err != nil }},
		{"Clear", func() bool { return p.holds("k") && s.Clear(ctx) == nil && !p.present("k") }},
		{"MissIsNotFound", func() bool { _, err := s.Get(ctx, "missing"); return errors.Is(err, store.NotFound{}) }},
		{"DeleteMissing", func() bool { return s.Delete(ctx, "missing") == nil }},
		{"HeedsContext", p.heedsContext},
		{"Tags", p.tags},
		{"SetIfNotExists", func() bool {
			nx, ok := s.(store.SetIfNotExistsStore)
			if !ok {
				return false
			}
			written, err := nx.SetIfNotExists(ctx, "new", p.value())
			return written && err == nil
		}},
		{"Swap", func() bool { return has[Swapper](s) }},
		{"Enumerate", func() bool { return has[Enumerator](s) }},
		{"OwnedBytes", func() bool { return has[BytesStore](s) }},
		{"BoundedRead", func() bool { return has[BoundedReader](s) }},
		{"Ping", func() bool { return has[Pinger](s) }},
		{"InvalidatePrefix", func() bool { return has[PrefixInvalidator](s) }},
	} {
		held := false
		_ = panicking(func() { held = c.holds() })
		if held {
			fmt.Fprintf(&b, "\t\t%s: true,\n", c.name)
		}
	}
	b.WriteString(p.ttl() + "\t}")
	return b.String()
}

// prober calls a store with unknown features. It panics if the store does.
type prober struct {
	ctx   context.Context // of the one call of suggestion
	store store.StoreInterface
}

// value is "v" in a form that the store takes.
func (p prober) value() any {
	if f := p.form([]byte("12")); f == "Refused" || f == "Panics" {
		return "v"
	}
	return []byte("v")
}

// form names the Form of a value.
func (p prober) form(value any) (name string) {
	name = "Panics"
	_ = panicking(func() {
		err := p.store.Set(p.ctx, "form", value)
		var got any
		if err == nil {
			got, err = p.store.Get(p.ctx, "form")
		}
		switch {
		case err != nil:
			name = "Refused"
		case fmt.Sprintf("%T", got) == fmt.Sprintf("%T", value):
			name = "AsGiven"
		case fmt.Sprintf("%T", got) == "[]uint8":
			name = "AsBytes"
		default:
			name = "AsString"
		}
	})
	return name
}

func (p prober) present(key string) bool {
	_, err := p.store.Get(p.ctx, key)
	return err == nil
}

func (p prober) holds(key string) bool {
	return p.store.Set(p.ctx, key, p.value()) == nil && p.present(key)
}

func (p prober) copies() bool {
	given := []byte("v")
	if p.store.Set(p.ctx, "copies", given) != nil {
		return false
	}
	given[0] = 'x'
	first, _ := p.store.Get(p.ctx, "copies")
	if textOf(first) != "v" {
		return false
	}
	if b, ok := first.([]byte); ok {
		b[0] = 'y'
	}
	second, _ := p.store.Get(p.ctx, "copies")
	return textOf(second) == "v"
}

func (p prober) heedsContext() bool {
	_, err := p.store.Get(cancelled(p.ctx), "k")
	return errors.Is(err, context.Canceled)
}

func (p prober) tags() bool {
	if p.store.Set(p.ctx, "tagged", p.value(), store.WithTags([]string{"t"})) != nil || !p.present("tagged") {
		return false
	}
	err := p.store.Invalidate(p.ctx, store.WithInvalidateTags([]string{"t"}))
	return err == nil && !p.present("tagged")
}

func (p prober) ttl() (text string) {
	_ = panicking(func() {
		if p.store.Set(p.ctx, "ttl", p.value(), store.WithExpiration(time.Hour)) != nil {
			return
		}
		_, left, err := p.store.GetWithTTL(p.ctx, "ttl")
		if err != nil || left <= 0 || left > time.Hour {
			return
		}
		resolution := "time.Second"
		if left%time.Second != 0 {
			resolution = "time.Millisecond"
		}
		text = "\t\tTTL: storetest.TTL{PerEntry: true, Reported: true, Resolution: " + resolution + "},\n"
	})
	return text
}
