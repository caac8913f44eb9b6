// Package frameworks runs gin-contrib/sessions and echo-contrib/session over gorillasessions, with a real Redis and real
// requests.
//
// It holds tests only, in a separate module, so that no user of gorillasessions gets the dependencies of these
// frameworks.
package frameworks
