package keyservice

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"

	"github.com/sealcache/sealcache/aead"
)

// Failure is the answer of a service that did not do the requested operation.
type Failure struct {
	// Reason says why, in words of this project. Texts of services and clients may quote credentials, so they are not shown.
	Reason string
	// Remedy is an instruction to the operator, such as the permission to grant. It may be empty.
	Remedy string
	// Refusal is aead.ErrUnauthentic or aead.ErrUnknownKey if the service definitely refused the ciphertext, and nil in an
	// outage.
	Refusal error
	// Cause is the client's own error.
	Cause error
}

// Error returns the reason and the remedy.
func (f *Failure) Error() string {
	if f.Remedy == "" {
		return f.Reason
	}
	return f.Reason + " (" + f.Remedy + ")"
}

// Unwrap returns the client's own error.
func (f *Failure) Unwrap() error { return f.Cause }

// Refuse returns a definite refusal of a ciphertext.
func Refuse(as error, reason string, cause error) *Failure {
	return &Failure{Reason: reason, Refusal: as, Cause: cause}
}

// Unreached returns the failure of a call that got no answer.
func Unreached(err error) *Failure {
	return &Failure{Reason: describe(err), Cause: err}
}

// describe names a network error without its address, which may hold a password.
func describe(err error) string {
	var (
		dns   *net.DNSError
		cert  *tls.CertificateVerificationError
		alert tls.AlertError
		errno syscall.Errno
		slow  net.Error
	)
	switch {
	case errors.Is(err, context.Canceled):
		return context.Canceled.Error()
	case errors.Is(err, context.DeadlineExceeded):
		return context.DeadlineExceeded.Error()
	case errors.As(err, &dns):
		return "host not found"
	case errors.As(err, &cert):
		return "the server's certificate is not trusted"
	case errors.As(err, &alert):
		return "the key service refused the TLS handshake"
	case errors.Is(err, http.ErrSchemeMismatch):
		return "the server does not speak TLS"
	case errors.As(err, &errno):
		return errno.Error()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the connection was closed"
	case errors.As(err, &slow) && slow.Timeout():
		return "timeout: the key service did not answer in time"
	}
	return "the call failed, or the key service did not answer"
}

// withoutRefusal makes every failure to wrap an outage: there is no ciphertext that could have been refused.
func withoutRefusal(err error) error {
	var f *Failure
	if errors.As(err, &f) && f.Refusal != nil {
		return &Failure{Reason: f.Reason, Remedy: f.Remedy, Cause: f.Cause}
	}
	return err
}

// Error is the error of a KEK.
type Error struct {
	action string
	key    Key
	err    *Failure
}

// OpenError returns the error of an opener: err, which need not be a *Failure, for a key.
func OpenError(key Key, err error) error {
	return (&KEK{key: key}).failed("", err)
}

func (k *KEK) failed(action string, err error) error {
	var f *Failure
	if !errors.As(err, &f) {
		f = Unreached(err)
	}
	return &Error{action: action, key: k.key, err: f}
}

// Error names the module, the key and the reason. aead.OpenKEK names the module of an error of the opener.
func (e *Error) Error() string {
	text := fmt.Sprintf("key %q%s: %v", e.key.Name, e.key.Place, e.err)
	if e.action == "" {
		return text
	}
	return e.key.Module + ": " + e.action + ": " + text
}

// Unwrap returns the verdict and the client's own error.
func (e *Error) Unwrap() []error {
	verdict := e.err.Refusal
	if verdict == nil {
		verdict = aead.ErrKeyServiceUnavailable
	}
	if e.err.Cause == nil {
		return []error{verdict}
	}
	return []error{verdict, e.err.Cause}
}
