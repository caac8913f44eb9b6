package sealtest

// PanicSecret is the value of the panics of a PanickingError. No text may contain it.
const PanicSecret = "panic-value-hunter2"

// PanickingError is an error of foreign code whose method Error panics.
type PanickingError struct{ Cause error }

func (PanickingError) Error() string { panic(PanicSecret) }

// Unwrap returns the cause.
func (p PanickingError) Unwrap() error { return p.Cause }
