package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// An operator who mistypes a flag or a command reads which one it was. A secret in a wrong place is not repeated.
func TestUnknownFlagsAndCommandsAreShownWithoutSecrets(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("n", 100)
	for args, want := range map[string]string{
		"migrate --prefx shop:":         `sealcache migrate: unknown flag --prefx (did you mean --prefix?)`,
		"migrate --prefx=SECRET":        `sealcache migrate: unknown flag --prefx (did you mean --prefix?)`,
		"migrate --nonsense=SECRET":     `sealcache migrate: unknown flag --nonsense ("sealcache help migrate" lists the flags)`,
		"migrate --nonsense:SECRET":     `sealcache migrate: unknown flag --nonsense ("sealcache help migrate" lists the flags)`,
		"migrate --" + long:             `sealcache migrate: unknown flag --` + long[:30] + ` ("sealcache help migrate" lists the flags)`,
		"migrate --kex x":               `sealcache migrate: unknown flag --kex (did you mean --kek?)`,
		"migrate -pSECRET":              `sealcache migrate: unknown flag -p ("sealcache help migrate" lists the flags)`,
		"migrate -p=SECRET":             `sealcache migrate: unknown flag -p (did you mean --prefix or --prf-keyset-name or --progress or --proof?)`,
		"migrate -prefx=SECRET":         `sealcache migrate: unknown flag -p (did you mean --prefix?)`,
		"migrate -redis=SECRET":         `sealcache migrate: unknown flag -redis (flags take two dashes: --redis)`,
		"-!SECRET":                      `sealcache: unknown flag ("sealcache help" lists the flags)`,
		"--nonsense":                    `sealcache: unknown flag --nonsense ("sealcache help" lists the flags)`,
		"migrat":                        `sealcache: unknown command "migrat" (did you mean migrate?)`,
		"key":                           `sealcache: unknown command "key" (did you mean kek or keys?)`,
		"SECRET":                        `sealcache: unknown command ("sealcache help" lists the commands)`,
		"secret1":                       `sealcache: unknown command ("sealcache help" lists the commands)`,
		"keys " + long:                  `sealcache keys: unknown command ("sealcache help keys" lists the commands)`,
		"redis://user:SECRET@localhost": `sealcache: unknown command ("sealcache help" lists the commands)`,
	} {
		status, out, log := sealcache(t, strings.Fields(args)...)
		require.Equal(t, exitUsage, status, args)
		require.Empty(t, out)
		require.Equal(t, want+"\n", log, args)
	}
}
