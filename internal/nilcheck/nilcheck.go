// Package nilcheck finds interface values that hold a nil pointer. Such a value is not equal to nil, but a method call on
// it can panic. Constructors call [IsNil] to refuse such arguments.
package nilcheck

import "reflect"

// IsNil reports whether v is nil, or holds a nil pointer, map, function, channel or slice.
func IsNil(v any) bool {
	if v == nil {
		return true
	}
	switch r := reflect.ValueOf(v); r.Kind() {
	case reflect.Pointer, reflect.Map, reflect.Func, reflect.Chan, reflect.Slice:
		return r.IsNil()
	default:
		return false
	}
}
