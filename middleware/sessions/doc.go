// Package sessions stores HTTP sessions in a middleware.Store, which seals them. To seal is to encrypt so that altered data
// is detected. The package is a store for scs (github.com/alexedwards/scs). For gorilla/sessions, gin and echo, use package
// gorillasessions.
//
//	sealed, err := middleware.New(backing, keys, middleware.WithNamespace("sessions"), middleware.WithOneWayKeys(set))
//	store, err := sessions.New(sealed)
//	manager := scs.New()
//	manager.Store = store
//
// Here, backing is a gocache store, such as one from redisstore.Open. The variable keys is an aead.Envelope with the encryption
// keys. The variable set is a *prf.Set from aead.OpenPRF, with the keys of a pseudorandom function (PRF). The middleware.Store
// replaces the name of each entry (here: the session token) by a pseudonym. An attacker without the PRF keys cannot compute the
// pseudonym of a name. [New] refuses a middleware.Store without the option WithOneWayKeys or WithHiddenKeys.
//
// A session token is as secret as a password: an attacker with the token can act as the user. Most session stores use the
// token as the key name in Redis. This store uses a pseudonym of the token. A dump of Redis shows no token, no user name
// and no content of a session.
//
// # Expiration
//
// A session has one or two expiry times, which are sealed. An expired session is not found, even if an attacker removed
// the TTL in Redis or restored a dump.
//
//   - The absolute expiry is the time that scs passes to [Store.CommitCtx]. Loading a session or calling Touch never extends it.
//   - The idle expiry exists only with [WithIdleTimeout]. Loading a session extends this expiry to the full timeout from now,
//     but at most once per sixteenth of the timeout. An application without scs can call [Store.Touch].
//
// If an attacker restores a dump, a session can work again after logout, until it expires. So use short expiry times.
// SECURITY.md describes a remedy.
//
// # Concurrent requests
//
// scs loads a session at the start of a request. If the request changed the session, scs writes it at the end. Another
// request can delete the session in between (a logout). Then the write brings the deleted session back, because scs
// requires CommitCtx to write every session, even one that no longer exists. Package gorillasessions does not have this
// problem over redisstore and memorystore: it calls [Store.Replace], which writes only a session that exists.
//
// So, with scs, change a session in as few requests as possible. Use [WithIdleTimeout] and not the IdleTimeout of scs. With
// the IdleTimeout of scs, each request writes the session.
package sessions
