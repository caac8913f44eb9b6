// Sealcache moves and examines what applications that use sealcache keep in Redis, and makes their keysets.
//
//	sealcache migrate   seal what is in clear, in place or under new names
//	sealcache reseal    seal anew, under the present key, what is sealed under another
//	sealcache unseal    write in clear what is sealed
//	sealcache audit     count what is clear and what is sealed, under which keys
//	sealcache inspect   what one entry is; needs no keys
//	sealcache get       what one entry holds; is recorded
//	sealcache keys      make, list and rotate keysets: create, list, add, promote, disable, enable, destroy, rewrap
//
// "sealcache COMMAND -h" lists the flags. The environment of the application serves here too: SEALCACHE_STORE,
// SEALCACHE_NAMESPACE, SEALCACHE_KEK and SEALCACHE_KEYSET stand for -redis, -namespace, -kek and -keyset, which come
// first. middleware/migrate/RUNBOOK.md tells how to turn encryption on in a running service.
//
// # Exit status
//
//	0  done, and nothing is left; of audit: nothing is in clear (with -expect clear: nothing is sealed), or the key may be destroyed
//	1  it failed or was stopped; what was done is done, and doing it again goes on unless the message says otherwise
//	2  the command line or the configuration is wrong; nothing was done
//	3  complete, but entries were left as they were, or none were found where some were expected; of audit: something is in clear
//	   (sealed), or the key may not be destroyed
//	4  of audit: it cannot tell, and says why
package main
