// Package gorillasessions keeps sessions of github.com/gorilla/sessions on the server, encrypted. Its [Store] is a store for
// gorilla/sessions. gin-contrib/sessions and echo's session middleware accept it, too. Create a Store of package
// middleware/sessions, and pass it to [New]:
//
//	store, err := sessions.New(sealed) // package middleware/sessions
//	cookies, err := gorillasessions.New(store)
//	session, err := cookies.Get(request, "session")
//
// Here, sealed is a *middleware.Store. Make it with the option middleware.WithOneWayKeys, which stores a pseudonym in place
// of each token.
//
// The cookie contains only a random token of 32 bytes. An attacker cannot guess the token, so the cookie needs no signature
// and no cookie key.
//
// # Login
//
// Call [Store.Renew] before Save when a user logs in. Save then gives the session a new token. The old token, which an
// attacker may know, opens no session. The Store never uses an unknown token from a cookie.
//
// # Names
//
// A session is bound to its name. If a client puts the token of its session "cart" into the cookie of the session "admin",
// the client gets a new session.
package gorillasessions
