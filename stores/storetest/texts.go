package storetest

import "fmt"

// outcome describes what a call returned: its error, or got if there is none. The message goes on with what was wanted.
func outcome(got string, err error) string {
	if err != nil {
		return fmt.Sprintf("returned the error %q", err)
	}
	return "returned " + got
}

// errorText describes an error, or that there is none.
func errorText(err error) string {
	if err == nil {
		return "no error"
	}
	return fmt.Sprintf("the error %q", err)
}

// bytesText describes a slice, so that nil does not look like an empty one.
func bytesText(b []byte) string {
	if b == nil {
		return "a nil slice"
	}
	return shown(string(b))
}

// difference describes a text that a call returned and the one that was wanted, or where they differ if they are long.
func difference(got, want string) string {
	if shown(got) != shown(want) {
		return fmt.Sprintf("returned %s, want %s", shown(got), shown(want))
	}
	at := 0
	for at < len(got) && got[at] == want[at] {
		at++
	}
	return fmt.Sprintf("returned the right number of bytes (%d), but byte %d is %q, want %q", len(got), at, got[at:at+1], want[at:at+1])
}

func textOf(value any) string {
	switch v := value.(type) {
	case []byte:
		return string(v)
	case string:
		return v
	}
	return fmt.Sprintf("%T(%v)", value, value)
}

func shown(text string) string {
	if len(text) > 64 {
		return fmt.Sprintf("%q... (%d bytes)", text[:64], len(text))
	}
	return fmt.Sprintf("%q", text)
}
