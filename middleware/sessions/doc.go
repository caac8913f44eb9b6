// Package sessions stores HTTP sessions in a sealed store. It is a store for scs
// (github.com/alexedwards/scs). Package gorillasessions adapts it to gorilla/sessions and
// the frameworks that use gorilla/sessions.
//
//	sealed, err := middleware.New(backing, keys, middleware.WithNamespace("sessions"), middleware.WithOneWayKeys(set))
//	store, err := sessions.New(sealed)
//	manager := scs.New()
//	manager.Store = store
//
// [New] needs a middleware.Store that hides names, with WithOneWayKeys or WithHiddenKeys. It
// refuses any other Store. In the example, set holds the PRF keys from aead.OpenPRF.
//
// A session token is as secret as a password: an attacker with the token can act as the
// user. Most session stores use the token as the key name in Redis. This store writes only
// a pseudonym of the token, which a PRF key makes, and the sealed session. A dump contains
// no token, no user name and no value.
//
// # Expiration
//
// A session has two expiry times, and the store seals both. An expired session is not
// found, even if an attacker removed the TTL in Redis or restored a dump.
//
//   - The absolute expiry is the time that scs passes to Commit. Touch does not move it.
//   - The idle expiry exists only with [WithIdleTimeout]. Using the session moves it, but
//     only when a sixteenth of the timeout has passed since the last move.
//
// If an attacker restores a dump, a session can work again after logout, until it expires.
// Use short expiry times. SECURITY.md describes a remedy.
//
// # Concurrent requests
//
// Commit overwrites a session, because scs requires this. If a request begins before a
// logout and commits after the logout, it creates the session again. Replace does not do
// this, and gorillasessions uses Replace. Touch never restores a session that was deleted.
//
// With scs, do not change the session in requests that only read. Use WithIdleTimeout
// instead of scs's IdleTimeout, which commits in each request.
package sessions
