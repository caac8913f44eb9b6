// Package sessions keeps HTTP sessions in a sealed store, for scs
// (github.com/alexedwards/scs) and, through package gorillasessions, for
// gorilla/sessions and the frameworks that use it.
//
//	sealed, err := middleware.New(backing, keys, middleware.WithNamespace("sessions"), middleware.WithOneWayKeys(set))
//	store, err := sessions.New(sealed)
//	manager := scs.New()
//	manager.Store = store
//
// A session token is as secret as a password: an attacker who has it can act as the
// user. An ordinary session store writes the token to Redis as the name of a key. This
// store shows Redis only a keyed pseudonym of the token, and the sealed session. A dump
// contains no token, no name of a user and no value.
//
// # Times
//
// A session has two ends, and both are sealed. The idle end moves with each use, if
// WithIdleTimeout is given. The absolute end is the expiry that Commit gets, and
// Touch does not move it. A session past either end is not found, even if an
// attacker removed the TTL or restored a dump.
//
// A restored dump can revive a session that was logged out before its end. Keep the
// lifetime short, and see SECURITY.md for the remedy.
//
// # Concurrent requests
//
// Commit overwrites, as scs asks of a store. A request that began before a logout and
// commits after it writes the session again. Replace does not, and gorillasessions uses
// it. With scs, let requests that only read leave the
// session unchanged, and use WithIdleTimeout in place of scs's IdleTimeout, which
// commits at each request. Touch never restores a session that was deleted.
package sessions
