package aead

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// The associated data of a wrap call with a context is
//
//	"sealcache.wrap.v1 " || JSON object
//
// The object has the names in ascending order of their bytes, string values, no blanks and no escapes. One context has one
// encoding, and no context has the encoding of none.
const wrapContextPrefix = "sealcache.wrap.v1 "

const (
	// maxWrapContext is how many names a context has, the tenant included.
	maxWrapContext = 16
	// maxWrapContextName and maxWrapContextValue are lengths in bytes. A context of the greatest size stays below the 8192
	// characters that AWS KMS takes.
	maxWrapContextName  = 64
	maxWrapContextValue = 256
	// tenantContextName is the name that Envelope.Tenant adds.
	tenantContextName = "tenant"

	letters            = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	wrapContextNames   = letters + "_.-:/"
	wrapContextValues  = letters + "_.-:/@+= "
	reservedForAWS     = "aws:"
	nameOfTinkOnAWSKMS = "associatedData"
)

// WithWrapContext gives each call that wraps or unwraps a data key a wrap context, such as {"namespace": "shop"}. The context
// is the associated data of the call. Key services bind the wrapped data key to the context: a call with another context fails
// with ErrUnauthentic. If a service records its calls, an auditor can read the context there (docs/keyservices.md), so it must
// not be a secret.
//
// Envelope.Tenant adds the name "tenant" with the tenant's id. A context has 1 to 15 names. A name has 1 to 64 letters,
// digits, '_', '.', '-', ':' or '/'. A value has 1 to 256 of these characters, '@', '+', '=' or spaces. The names "tenant" and
// "associatedData" and all names that begin with "aws:" are reserved.
//
// All processes that share values need the same context. Tink's envelope opens none of these values, because it wraps data keys
// without associated data. WithOtherWrapContexts is for a change of the context.
//
// NewEnvelope calls the KEK once more, and fails if the KEK unwraps the first data key with another context. The first message of
// a tenant fails in the same way, and so does the first data key after a reload of the KEK. Of a KEKSet only the primary is asked.
func WithWrapContext(context map[string]string) EnvelopeOption {
	context = maps.Clone(context)
	return envelopeOption(func(c *envelopeConfig) error {
		if c.wrapContext != nil {
			return errors.New("aead: WithWrapContext: the option is given twice")
		}
		if err := checkWrapContext(context); err != nil {
			return fmt.Errorf("aead: WithWrapContext: %w", err)
		}
		c.wrapContext = context
		return nil
	})
}

// WithOtherWrapContexts also opens data keys that were wrapped with one of these contexts. nil means no context. Use it while
// processes change from one context to another, and until all older values are sealed again. For each data key the KEK is
// called with one context after the other, so remove the option when it is no longer needed.
//
// To introduce a context without downtime, give it here first, to every process. Then exchange the options: give WithWrapContext
// the context, and WithOtherWrapContexts nil.
func WithOtherWrapContexts(contexts ...map[string]string) EnvelopeOption {
	others := make([]map[string]string, len(contexts))
	for i := range contexts {
		others[i] = maps.Clone(contexts[i])
	}
	return envelopeOption(func(c *envelopeConfig) error {
		if len(c.otherWrapContexts)+len(others) > maxWrapContext {
			return fmt.Errorf("aead: WithOtherWrapContexts: at most %d wrap contexts are allowed", maxWrapContext)
		}
		for _, context := range others {
			if len(context) == 0 {
				context = nil
			} else if err := checkWrapContext(context); err != nil {
				return fmt.Errorf("aead: WithOtherWrapContexts: %w", err)
			}
			c.otherWrapContexts = append(c.otherWrapContexts, context)
		}
		return nil
	})
}

// checkWrapContext checks the context that a caller gives. It does not quote values.
func checkWrapContext(context map[string]string) error {
	if len(context) == 0 || len(context) >= maxWrapContext {
		return fmt.Errorf("the wrap context has %d name=value pairs (1 to %d are allowed)", len(context), maxWrapContext-1)
	}
	if _, ok := context[tenantContextName]; ok {
		return fmt.Errorf("the wrap context must not contain the name %q, because Envelope.Tenant adds this name", tenantContextName)
	}
	for name := range context {
		if reservedWrapName(name) {
			return fmt.Errorf("the wrap context must not have the name %q or a name that begins with %q", nameOfTinkOnAWSKMS, reservedForAWS)
		}
	}
	for name, value := range context {
		if !validWrapName(name) {
			return fmt.Errorf("a name in the wrap context is empty, over %d bytes, or has a byte outside [A-Za-z0-9_.:/-]", maxWrapContextName)
		}
		if !validWrapValue(value) {
			return fmt.Errorf("a value in the wrap context is empty, over %d bytes, or has a byte outside [A-Za-z0-9_.:/@+= -]", maxWrapContextValue)
		}
	}
	return nil
}

func validWrapName(name string) bool {
	return name != "" && len(name) <= maxWrapContextName && strings.Trim(name, wrapContextNames) == ""
}

func validWrapValue(value string) bool {
	return value != "" && len(value) <= maxWrapContextValue && strings.Trim(value, wrapContextValues) == ""
}

func validWrapContext(context map[string]string) bool {
	for name, value := range context {
		if !validWrapName(name) || !validWrapValue(value) || reservedWrapName(name) {
			return false
		}
	}
	return len(context) > 0 && len(context) <= maxWrapContext
}

func reservedWrapName(name string) bool {
	return name == nameOfTinkOnAWSKMS || strings.HasPrefix(strings.ToLower(name), reservedForAWS)
}

// encodeWrapContext returns the associated data of a context, or of none. tenant is added unless it is empty.
func encodeWrapContext(context map[string]string, tenant string) []byte {
	if len(context) == 0 {
		return []byte{} // Tink's envelope passes an empty slice, not nil
	}
	all := maps.Clone(context)
	if tenant != "" {
		all[tenantContextName] = tenant
	}
	out := []byte(wrapContextPrefix)
	for i, name := range slices.Sorted(maps.Keys(all)) {
		out = append(out, "{,"[min(i, 1)])
		out = fmt.Appendf(out, `"%s":"%s"`, name, all[name])
	}
	return append(out, '}')
}

// ParseWrapContext returns the context that WithWrapContext encoded as the associated data of a call to a KEK. It returns false
// for any other associated data, also for another encoding of a context. A KEKOpener uses it if its service takes a context of
// names and values, as AWS KMS does.
func ParseWrapContext(associatedData []byte) (context map[string]string, ok bool) {
	object, ok := bytes.CutPrefix(associatedData, []byte(wrapContextPrefix))
	const most = maxWrapContext * (maxWrapContextName + maxWrapContextValue + len(`"":"",`))
	if !ok || len(object) > most+1 || json.Unmarshal(object, &context) != nil || !validWrapContext(context) {
		return nil, false
	}
	if !bytes.Equal(encodeWrapContext(context, ""), associatedData) {
		return nil, false
	}
	return context, true
}

// wrapContexts are the associated data of the calls to a KEK.
type wrapContexts struct {
	config *envelopeConfig
	wrap   []byte   // of new data keys
	open   [][]byte // of data keys that open: wrap comes first
}

func newWrapContexts(c *envelopeConfig, tenant string) wrapContexts {
	w := wrapContexts{config: c, wrap: encodeWrapContext(c.wrapContext, tenant)}
	w.open = append(w.open, w.wrap)
	for _, context := range c.otherWrapContexts {
		w.open = append(w.open, encodeWrapContext(context, tenant))
	}
	return w
}

// tryContexts calls unwrap with one context after the other until the KEK does not refuse. If the KEK refuses all of them, it
// returns the first refusal.
func tryContexts(contexts [][]byte, unwrap func(associatedData []byte) ([]byte, error)) (out []byte, err error) {
	for i, associatedData := range contexts {
		out, again := unwrap(associatedData)
		if !isRefusal(again) {
			return out, again
		}
		if i == 0 {
			err = again
		}
	}
	return nil, err
}
