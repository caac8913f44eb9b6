// Package migratetest contains helper functions for the tests of packages migrate and audit. [SealedStore] makes a sealed
// (encrypted) cache in Redis, and [Fill] writes plaintext values to Redis. [Migrated] runs package migrate, and [Audited]
// runs package audit. Both fail the test if the run fails. A JSON report shows some Redis keys as Go string literals, such
// as keys that are not UTF-8. [ReportedName] returns the key itself.
package migratetest

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/middleware/audit"
	"github.com/sealcache/sealcache/middleware/migrate"
	"github.com/sealcache/sealcache/stores/redisstore"
)

// SealedStore returns the store of an application.
func SealedStore(t testing.TB, rdb redis.UniversalClient, a tink.AEADWithContext, ns string, opts ...middleware.Option) *middleware.Store {
	t.Helper()
	backing, err := redisstore.New(rdb)
	require.NoError(t, err)
	if ns != "" {
		opts = append(opts, middleware.WithNamespace(ns))
	}
	s, err := middleware.New(backing, a, opts...)
	require.NoError(t, err)
	return s
}

// Unproven migrates without a key check that proves the keys, unless c has a proof.
func Unproven(ctx context.Context, rdb redis.UniversalClient, c migrate.Config) (*migrate.Report, error) {
	c.AllowUnproven = c.Proof == ""
	return migrate.Run(ctx, rdb, c)
}

// Migrated returns the report of a complete run of Unproven.
func Migrated(ctx context.Context, t testing.TB, rdb redis.UniversalClient, c migrate.Config) *migrate.Report {
	t.Helper()
	r, err := Unproven(ctx, rdb, c)
	require.NoError(t, err)
	require.True(t, r.Complete)
	return r
}

// Audited returns the report of a complete audit.
func Audited(ctx context.Context, t testing.TB, rdb redis.UniversalClient, c audit.Config) *audit.Report {
	t.Helper()
	r, err := audit.Run(ctx, rdb, c)
	require.NoError(t, err)
	require.True(t, r.Complete)
	return r
}

// Use returns the number of values under a key of an audit.
func Use(r *audit.Report, key string) int64 {
	for _, k := range r.Keys {
		if k.Key == key {
			return k.Values
		}
	}
	return 0
}

// Name returns the name of the i-th key of Fill.
func Name(ns string, i int) string { return fmt.Sprintf("%s:k%d", ns, i) }

// Fill writes n plaintext values.
func Fill(t testing.TB, rdb redis.UniversalClient, ns string, n int) {
	t.Helper()
	pipe := rdb.Pipeline()
	for i := range n {
		pipe.Set(t.Context(), Name(ns, i), fmt.Sprint("value ", i), 0)
	}
	_, err := pipe.Exec(t.Context())
	require.NoError(t, err)
}

// Stored returns the value of a key as Redis has it.
func Stored(t testing.TB, rdb redis.UniversalClient, name string) []byte {
	t.Helper()
	b, err := rdb.Get(t.Context(), name).Bytes()
	require.NoError(t, err)
	return b
}

// Nameless is a key-encryption key whose ciphertexts begin with Start, as those of a key service do. They do not begin
// with the id of a key.
type Nameless struct {
	KEK   tink.AEADWithContext
	Start string
}

// EncryptWithContext puts Start before the ciphertext of KEK.
func (n Nameless) EncryptWithContext(ctx context.Context, plaintext, ad []byte) ([]byte, error) {
	ct, err := n.KEK.EncryptWithContext(ctx, plaintext, ad)
	return append([]byte(n.Start), ct...), err
}

// DecryptWithContext decrypts what follows Start.
func (n Nameless) DecryptWithContext(ctx context.Context, ct, ad []byte) ([]byte, error) {
	if len(ct) < len(n.Start) || string(ct[:len(n.Start)]) != n.Start {
		return nil, aead.ErrUnauthentic
	}
	return n.KEK.DecryptWithContext(ctx, ct[len(n.Start):], ad)
}

// ReportedName returns the name that a member of a JSON report has the form of.
func ReportedName(t testing.TB, member any) string {
	t.Helper()
	form, ok := member.(string)
	require.True(t, ok, "%v is not a string", member)
	if !strings.HasPrefix(form, `"`) {
		return form
	}
	name, err := strconv.Unquote(form)
	require.NoError(t, err)
	return name
}

// ReportedNames returns the ReportedName of each element of a list.
func ReportedNames(t testing.TB, list any) []string {
	t.Helper()
	elements, ok := list.([]any)
	require.True(t, ok, "%v is not a list", list)
	var all []string
	for _, e := range elements {
		all = append(all, ReportedName(t, e))
	}
	return all
}
