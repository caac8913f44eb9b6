// Package gorillasessions keeps sessions of github.com/gorilla/sessions in a sealed
// store, on the server. gin-contrib/sessions and echo's session middleware use
// gorilla/sessions. They accept the same Store.
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
// A session is bound to its name. A client cannot use the token of its session "cart" in
// the cookie of the session "admin".
//
// # Fixation
//
// The Store never uses an unknown token from a cookie. It gives the session a new token.
// Call Renew when a user logs in. The token from before the login then opens no session.
package gorillasessions
