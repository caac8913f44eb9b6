// Package capability tells what a store of gocache can do beyond gocache's interface. Each capability is an interface,
// such as middleware.Swapper. A store lists the names of its capabilities in its method Capabilities, as
// middleware.CapableStore describes.
//
// Begin with [Of], which converts the store to one of the interfaces, if the store lists it. To get all names that the
// store lists, call [Listed].
package capability

import (
	"reflect"
	"slices"
	"strings"

	"github.com/eko/gocache/lib/v4/store"
)

// Listed returns the names of the capabilities that backing declares for itself. If a type embeds a store, it inherits the
// declaration of the store. The inherited methods would bypass what the type overrides, so the declaration does not count.
func Listed(backing store.StoreInterface) []string {
	if declaring, ok := backing.(interface {
		Capabilities() (owner any, names []string)
	}); ok {
		owner, names := declaring.Capabilities()
		if samePointer(owner, backing) {
			return names
		}
		return nil
	}
	t := reflect.TypeOf(backing)
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	_, setsNX := backing.(store.SetIfNotExistsStore)
	if setsNX && strings.HasPrefix(t.PkgPath(), "github.com/eko/gocache/") { // declared there, so nothing is overridden
		return []string{"SetIfNotExistsStore"}
	}
	return nil
}

// Of returns backing as the interface T, whose name is given, if backing implements T and declares it for itself.
func Of[T any](backing store.StoreInterface, name string) (capable T, ok bool) {
	if !slices.Contains(Listed(backing), name) {
		return capable, false
	}
	capable, ok = backing.(T)
	return capable, ok
}

// samePointer reports whether two values are the same pointer. The types are
// compared too, because a struct has the address of its first field.
func samePointer(a, b any) bool {
	x, y := reflect.ValueOf(a), reflect.ValueOf(b)
	return x.IsValid() && x.Kind() == reflect.Pointer && x.Type() == y.Type() && x.Pointer() == y.Pointer()
}
