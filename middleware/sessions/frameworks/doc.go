// Package frameworks tests package gorillasessions with the web frameworks gin and echo, over a real Redis. It is a
// separate Go module, so that users of gorillasessions do not get the dependencies of these frameworks.
package frameworks
