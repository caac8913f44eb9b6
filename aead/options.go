package aead

import (
	"errors"
	"log/slog"
)

// Option is an option for an Envelope as well as for a Keyring.
type Option interface {
	EnvelopeOption
	KeyringOption
}

// WithLogger sets the logger of an Envelope or a Keyring, which must not be nil. It logs new data keys, reloads, keys near
// their bound, and failures of the key-encryption key. It never logs key material. The default is slog.Default().
func WithLogger(log *slog.Logger) Option { return loggerOption{log} }

type loggerOption struct{ log *slog.Logger }

func (o loggerOption) applyEnvelope(c *envelopeConfig) error { return o.set(&c.log) }
func (o loggerOption) applyKeyring(c *keyringConfig) error   { return o.set(&c.log) }

func (o loggerOption) set(log **slog.Logger) error {
	if o.log == nil {
		return errors.New("aead: WithLogger: the logger is nil")
	}
	*log = o.log
	return nil
}
