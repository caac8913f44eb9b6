// Sealcache moves and examines the data that applications keep with sealcache in Redis, and manages their keysets.
//
// "sealcache help" lists the commands, the environment variables and the exit statuses. "sealcache help COMMAND" has the
// flags and examples of a command. docs/rollout.md turns encryption on in a running service, step by step.
package main
