// Package gorillasessions keeps sessions of github.com/gorilla/sessions in a sealed
// store, on the server. gin-contrib/sessions and echo's session middleware build on
// gorilla/sessions and take the same Store.
//
//	store, err := sessions.New(sealed) // package middleware/sessions
//	cookies, err := gorillasessions.New(store)
//	session, err := cookies.Get(request, "session")
//
// The cookie holds a random token of 32 bytes and nothing else. The token cannot be
// guessed, so it needs no signature and no cookie key.
//
// # Names
//
// A session is bound to its name: a token that a client got for the session "cart" is
// worth nothing in the cookie of the session "admin".
//
// # Fixation
//
// A token that the store does not know is never adopted: the session gets a new one.
// Call Renew when a user logs in, so that a token from before the login is worth
// nothing.
package gorillasessions
