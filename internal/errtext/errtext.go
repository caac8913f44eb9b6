// Package errtext returns the texts of errors that code outside of this module made. The method Error of such an error may
// panic, for example on a nil pointer. Package fmt then writes the value of the panic into the text, and the value may be a
// secret.
//
// Where an error of such code enters this module, call [Guard] once. Guard returns an error that does not panic, and whose
// text does not contain the value of a panic. If only the text is needed, call [Text] instead. Package errtext imports only
// the standard library.
package errtext

import (
	"fmt"
	"strings"
)

// Text returns the text of an error. If the method Error panics, the text only names the type of the error. If the error
// quotes another error whose method panicked, the text ends there. It is empty for nil.
func Text(err error) string {
	if err == nil {
		return ""
	}
	text, _ := textOf(err)
	return text
}

// Guard returns err itself if its methods Error and Format do not panic and its text quotes no panic. Otherwise it returns an
// error with the text of [Text]. errors.Is and errors.As find err in it without calling its method Error.
func Guard(err error) error {
	if err == nil {
		return nil
	}
	if text, whole := textOf(err); !whole || formatPanics(err) {
		return &guarded{text, err}
	}
	return err
}

// From returns Guard of an error. If the text does not begin with the name of a package and a colon, From puts them before it.
func From(pkg string, err error) error {
	if err = Guard(err); err == nil || strings.HasPrefix(err.Error(), pkg+": ") {
		return err
	}
	return fmt.Errorf("%s: %w", pkg, err)
}

// guarded is an error whose own methods must not be called for a text.
type guarded struct {
	text string
	err  error
}

func (g *guarded) Error() string { return g.text }
func (g *guarded) Unwrap() error { return g.err }

// panicMark is what package fmt writes between the verb and the value of a panic, in "%!v(PANIC=Error method: value)".
const panicMark = "(PANIC="

// textOf returns the text of an error, and whether it is the whole text.
func textOf(err error) (text string, whole bool) {
	defer func() {
		if recover() != nil { // the value may hold a secret
			text, whole = fmt.Sprintf("error of type %T: its method Error panicked", err), false
		}
	}()
	before, _, cut := strings.Cut(err.Error(), panicMark)
	if cut {
		return before + "(rest of the text not shown: a method of an error panicked)", false
	}
	return before, true
}

// formatPanics reports whether the error has a method Format, which package fmt prefers to Error, and whether that method panics.
func formatPanics(err error) bool {
	f, ok := any(err).(fmt.Formatter)
	if !ok {
		return false
	}
	p := formatProbe{next: f}
	return strings.Contains(fmt.Sprint(&p), panicMark) || p.panicked
}

type formatProbe struct {
	next     fmt.Formatter
	panicked bool
}

// Format calls the method of the error.
func (p *formatProbe) Format(s fmt.State, verb rune) {
	defer func() { p.panicked = recover() != nil }()
	p.next.Format(s, verb)
}

// GoString shows no part of the error.
func (p *formatProbe) GoString() string { return "errtext.formatProbe" }
