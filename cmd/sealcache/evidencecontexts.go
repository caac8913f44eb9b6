package main

import (
	"strings"

	"github.com/sealcache/sealcache/internal/keyconfig"
)

// contextEvidence is the context with which data keys are wrapped. It is not a secret.
type contextEvidence struct {
	For     string            `json:"for"` // a cache, or the flag
	Context map[string]string `json:"context"`
	State   string            `json:"state"` // prepare, tolerate or require
}

// text returns the names and values, and the state.
func (c contextEvidence) text() string {
	if len(c.Context) == 0 {
		return "none"
	}
	var pairs []string
	for _, name := range sortedKeys(c.Context) {
		pairs = append(pairs, name+"="+c.Context[name])
	}
	return strings.Join(pairs, ",") + " (" + c.State + ")"
}

// contextsText describes the contexts of a key.
func contextsText(contexts []contextEvidence) string {
	if len(contexts) == 0 {
		return "none"
	}
	var all []string
	for _, c := range contexts {
		all = append(all, c.For+": "+c.text())
	}
	return strings.Join(all, "; ")
}

// stateOfContext returns the state of a wrap context, whose default is to require it.
func stateOfContext(context map[string]string, state string) string {
	if len(context) > 0 && state == "" {
		return keyconfig.Require
	}
	return state
}

// note adds the context of the data keys that the key of a wish wraps.
func (i *inventory) note(w wantedKeyset, to *[]contextEvidence) {
	if len(w.context) > 0 {
		*to = append(*to, contextEvidence{For: w.origin, Context: w.context, State: stateOfContext(w.context, w.contextState)})
	}
}

// findInContexts reports data keys that may lack their context.
func (r *evidence) findInContexts(contexts []contextEvidence) {
	for _, c := range contexts {
		if c.State != keyconfig.Require {
			r.found("%s: data keys without the wrap context are accepted (%s)", c.For, c.State)
		}
	}
}
