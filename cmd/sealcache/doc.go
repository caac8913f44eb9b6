// Command sealcache seals (encrypts) the data that an application already has in Redis, and turns it back into plaintext.
// It counts sealed and plaintext values, and shows single entries. It also makes and rotates encryption keys.
//
// Begin with the list of commands, environment variables and exit statuses:
//
//	sealcache help
//
// "sealcache help COMMAND" prints the flags and examples of a command. The guide docs/rollout.md uses the commands to turn
// on encryption in a running service.
package main
