package main

import "github.com/sealcache/sealcache/middleware/migrate"

const shopEnv = "  export SEALCACHE_STORE=redis://localhost:6379/0 SEALCACHE_NAMESPACE=shop SEALCACHE_KEK=file:///run/secrets/kek.json\n"

func dataCommands() []entry {
	return []entry{
		{
			use: "plan", short: "Count what a migration would meet; needs no encryption keys", make: func() command { return new(planCommand) },
			long: "Plan reads the start of every entry. It counts entries by prefix and form: JSON, MessagePack, text, numbers, values that\n" +
				"INCR, APPEND or SETBIT changed, short tokens that may be locks, other types. It shows the growth, and what would stop a\n" +
				"migration. Exit status 3: an obstacle, no entry, or an --exclude that matched nothing.",
			example: shopEnv + "  sealcache plan --exclude lock: --largest 10",
		},
		{
			use: "migrate", short: "Seal plaintext entries, in place or under new names", make: func() command { return &moveCommand{operation: migrate.Seal} },
			long: "Migrate seals plaintext entries while the application runs. Every entry keeps its expiry and its tags. An entry that\n" +
				"changes during the run is read again. --to-namespace and --to-prefix give entries new names; stop the writers first.\n" +
				"--hidden-keys and --one-way-keys hide the names; stop the writers to the plain names first.\n\n" +
				"Hashes, lists and entries of other types are not examined. Unless names change, they do not count for the exit status.\n" +
				"\"sealcache audit\" reports them.",
			example: shopEnv + "  sealcache migrate --dry-run\n  sealcache migrate --exclude lock: --checkpoint migrate.checkpoint --report migrate.json",
		},
		{
			use: "reseal", short: "Seal entries again under the primary key", make: func() command { return &moveCommand{operation: migrate.Reseal} },
			long: "Reseal opens entries that are sealed under another key, and seals them under the primary key. Run it after\n" +
				"\"sealcache keys promote\". --old-kek names keys that --kek does not have. --hidden-keys also moves hidden names to the\n" +
				"primary PRF key.",
			example: shopEnv + "  sealcache reseal --checkpoint reseal.checkpoint",
		},
		{
			use: "unseal", short: "Write sealed entries as plaintext", make: func() command { return &moveCommand{operation: migrate.Unseal} },
			long:    "Unseal opens sealed entries and writes them as plaintext: the way back from encryption.",
			example: shopEnv + "  sealcache unseal --checkpoint unseal.checkpoint",
		},
		{
			use: "audit", short: "Count plaintext and sealed values, and the keys of the sealed ones", make: func() command { return new(auditCommand) },
			long: "Audit counts plaintext and sealed values, and the keys that values are sealed under. It answers one question: is every\n" +
				"value sealed? Or with --expect plaintext: is none sealed? Or with --may-destroy: may this key be destroyed?\n" +
				"Or with --may-disable: may this PRF key of hidden names be disabled?",
			example: shopEnv + "  sealcache audit --open --report audit.json\n" +
				"  sealcache audit --may-destroy 1111111111 --not-primary-since 2030-01-31T12:00:00Z --reload 1m",
		},
		{
			use: "inspect KEY", short: "Describe one entry; needs no encryption keys", make: func() command { return new(inspectCommand) },
			long:    "Inspect shows the form, the size, the expiry and the key id of one entry. It shows no value.",
			example: shopEnv + "  sealcache inspect user:1\n  sealcache inspect --namespace '' shop:user:1",
		},
		{
			use: "get KEY", short: "Open one entry; each use is recorded", make: func() command { return new(getCommand) },
			long:    "Get opens one entry and writes its value. Before that, it records the user, the reason and a digest of the name.",
			example: shopEnv + "  sealcache get --reason 'ticket 7' --record /var/log/sealcache.jsonl user:1 > value",
		},
	}
}
