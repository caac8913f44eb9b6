package audit_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/prf"
	"github.com/tink-crypto/tink-go/v2/tink"

	"github.com/sealcache/sealcache/internal/migratetest"
	"github.com/sealcache/sealcache/internal/redistest"
	"github.com/sealcache/sealcache/internal/sealtest"
	"github.com/sealcache/sealcache/middleware"
	"github.com/sealcache/sealcache/middleware/audit"
)

// prfKeys returns the ids of two PRF keys, and the set of both with each of them as the primary key.
func prfKeys(t *testing.T) (ids [2]uint32, sets [2]*prf.Set) {
	t.Helper()
	m := keyset.NewManager()
	for i := range ids {
		var err error
		ids[i], err = m.Add(prf.HMACSHA256PRFKeyTemplate())
		require.NoError(t, err)
	}
	for i := range ids {
		require.NoError(t, m.SetPrimary(ids[i]))
		h, err := m.Handle()
		require.NoError(t, err)
		sets[i], err = prf.NewPRFSet(h)
		require.NoError(t, err)
	}
	return ids, sets
}

// The report counts entries by the PRF key that hides their names, including entries that do not hold their key. It answers
// whether a PRF key can be disabled.
func TestPRFKeysAreCounted(t *testing.T) {
	on(t, func(t *testing.T, rdb redis.UniversalClient, ns string) {
		a, ctx := sealtest.Keyring(t), t.Context()
		ids, sets := prfKeys(t)
		for i, n := range []int{3, 5} {
			s := migratetest.SealedStore(t, rdb, a, ns, middleware.WithHiddenKeys(only(sets[i], ids[i])))
			for k := range n {
				require.NoError(t, s.Set(ctx, fmt.Sprint(i, " key ", k), "v"))
			}
		}
		token := migratetest.SealedStore(t, rdb, a, ns, middleware.WithOneWayKeys(only(sets[0], ids[0])))
		require.NoError(t, token.Set(ctx, "token", "v"))

		r := audited(t, rdb, audit.Config{Namespace: ns})
		require.EqualValues(t, 9, r.HiddenNames.Values)
		require.EqualValues(t, 1, r.HiddenNames.OneWay)
		require.Len(t, r.HiddenNames.PRFKeys, 2)
		answer, _ := r.MayDisable(ids[0])
		require.Equal(t, audit.No, answer)
		answer, _ = r.MayDisable(ids[0] + 1)
		require.Equal(t, audit.Unknown, answer)

		r = audited(t, rdb, audit.Config{Namespace: ns, HiddenKeys: sets[1], Keys: []tink.AEADWithContext{a}})
		require.EqualValues(t, 4, r.HiddenNames.Older)
		require.Zero(t, r.HiddenNames.Unknown)
		require.Equal(t, []uint32{ids[1], ids[0]}, r.GivenPRFKeys)
		require.Equal(t, ids[1], r.HiddenNames.PRFKeys[0].ID)
		require.Equal(t, "primary", r.HiddenNames.PRFKeys[0].Status)
		answer, reasons := r.MayDisable(ids[1])
		require.Equal(t, audit.No, answer)
		require.Len(t, reasons, 2, "it is primary, and values are under it")
		b, err := json.Marshal(r)
		require.NoError(t, err)
		for _, field := range []string{`"hidden_names":{"values":9`, `"one_way":1`, `"older":4`, `"unknown":0`, `"prf_keys":[{"key_id":`, `"status":"older"`, `"given_prf_key_ids":[`} {
			require.Contains(t, string(b), field)
		}
		var text bytes.Buffer
		require.NoError(t, r.WriteText(&text))
		require.Contains(t, text.String(), fmt.Sprintf("PRF key %d older", ids[0]))

		// A set without the older key knows nothing of it. A set with another key of the same id finds out.
		r = audited(t, rdb, audit.Config{Namespace: ns, HiddenKeys: only(sets[1], ids[1])})
		require.EqualValues(t, 4, r.HiddenNames.Unknown)
		_, others := prfKeys(t)
		posing := &prf.Set{PrimaryID: ids[1], PRFs: map[uint32]prf.PRF{ids[1]: others[0].PRFs[others[0].PrimaryID]}}
		r = audited(t, rdb, audit.Config{Namespace: ns, HiddenKeys: posing, Keys: []tink.AEADWithContext{a}})
		require.EqualValues(t, 9, r.HiddenNames.Unknown)

		// When the older entries are gone, the answer is yes.
		require.NoError(t, token.Delete(ctx, "token"))
		require.NoError(t, migratetest.SealedStore(t, rdb, a, ns, middleware.WithHiddenKeys(sets[1])).DeleteMany(ctx, []string{"0 key 0", "0 key 1", "0 key 2"}))
		r = audited(t, rdb, audit.Config{Namespace: ns, HiddenKeys: sets[1]})
		answer, reasons = r.MayDisable(ids[0])
		require.Equal(t, audit.Yes, answer, "%v", reasons)
		for name, c := range map[string]audit.Config{
			"prefix":  {Namespace: ns, Prefix: "1", HiddenKeys: sets[1], Keys: []tink.AEADWithContext{a}},
			"exclude": {Namespace: ns, Exclude: []string{"1 key 0"}, HiddenKeys: sets[1], Keys: []tink.AEADWithContext{a}},
			"no keys": {Namespace: ns},
			"no name": {Namespace: ns + "x", HiddenKeys: sets[1]},
		} {
			answer, _ = audited(t, rdb, c).MayDisable(ids[0])
			require.Equal(t, audit.Unknown, answer, name)
		}
		r.Complete = false
		answer, _ = r.MayDisable(ids[0])
		require.Equal(t, audit.Unknown, answer)
	})
}

// Planted values that name many PRF keys do not hide the values under a key from the question whether it may be disabled.
func TestPlantedPRFKeysForbidYes(t *testing.T) {
	t.Parallel()
	rdb := redistest.Start(t).Client(t)
	a, ctx := sealtest.Keyring(t), t.Context()
	ids, sets := prfKeys(t)
	require.NoError(t, migratetest.SealedStore(t, rdb, a, "ns", middleware.WithHiddenKeys(only(sets[0], ids[0]))).Set(ctx, "key", "v"))
	names, err := rdb.Keys(ctx, "ns:*").Result()
	require.NoError(t, err)
	require.Len(t, names, 1)
	planted := stored(t, rdb, names[0])
	at := bytes.Index(planted, binary.BigEndian.AppendUint32(nil, ids[0]))
	require.Positive(t, at)
	pipe := rdb.Pipeline()
	for i := range 2000 {
		binary.BigEndian.PutUint32(planted[at:], uint32(i+1))
		pipe.Set(ctx, fmt.Sprint("ns:planted", i), bytes.Clone(planted), 0)
	}
	_, err = pipe.Exec(ctx)
	require.NoError(t, err)
	// The honest value may be among those that are not counted apart. Whether it is there must not matter.
	require.NoError(t, rdb.Del(ctx, names[0]).Err())
	answer, reasons := audited(t, rdb, audit.Config{Namespace: "ns", HiddenKeys: sets[1]}).MayDisable(ids[0])
	require.Equal(t, audit.Unknown, answer)
	require.Contains(t, strings.Join(reasons, "\n"), "beyond the 1024 in the report")
}

// Prefixes match the keys that are sealed in the values.
func TestFiltersOpenHiddenNames(t *testing.T) {
	on(t, func(t *testing.T, rdb redis.UniversalClient, ns string) {
		a, ctx := sealtest.Keyring(t), t.Context()
		_, sets := prfKeys(t)
		s := migratetest.SealedStore(t, rdb, a, ns, middleware.WithHiddenKeys(sets[0]))
		for i := range 4 {
			require.NoError(t, s.Set(ctx, fmt.Sprint("user:", i), "v"))
		}
		require.NoError(t, s.Set(ctx, "lock:1", "v"))
		require.NoError(t, rdb.Set(ctx, ns+":lock:plain", "v", 0).Err())
		require.NoError(t, rdb.Set(ctx, ns+":user:plain", "v", 0).Err())
		config := audit.Config{Namespace: ns, HiddenKeys: sets[0], Keys: []tink.AEADWithContext{a}}

		users := config
		users.Prefix = "user:"
		r := audited(t, rdb, users)
		require.EqualValues(t, 4, r.Total.Sealed.Values)
		require.EqualValues(t, 1, r.Total.Plaintext.Values)
		require.EqualValues(t, 5, r.Seen)

		unlocked := config
		unlocked.Exclude = []string{"lock:"}
		r = audited(t, rdb, unlocked)
		require.EqualValues(t, 4, r.Total.Sealed.Values)
		require.EqualValues(t, 1, r.Total.Plaintext.Values)
		require.EqualValues(t, 2, r.Excluded)
		require.False(t, r.Unmatched())

		grouped := config
		grouped.GroupBy = []string{"user:", "lock:"}
		r = audited(t, rdb, grouped)
		require.Len(t, r.Groups, 2)
		require.EqualValues(t, 4, r.Groups[0].Sealed.Values)
		require.Equal(t, ns+":user:", r.Groups[0].Prefix)

		noKeys := users
		noKeys.Keys = nil
		oneWay := users
		oneWay.HiddenKeys, oneWay.OneWayKeys = nil, sets[0]
		both := config
		both.OneWayKeys = sets[0]
		for text, c := range map[string]audit.Config{
			"Config.Prefix: a prefix can match": noKeys,
			"(unset Config.Prefix)":             oneWay,
			"cannot be combined":                both,
			"nil or empty":                      {HiddenKeys: new(prf.Set)},
		} {
			_, err := audit.Run(ctx, rdb, c)
			require.ErrorIs(t, err, audit.ErrConfig)
			require.ErrorContains(t, err, text)
		}
		require.NoError(t, migratetest.SealedStore(t, rdb, a, ns, middleware.WithOneWayKeys(sets[0])).Set(ctx, "token", "v"))
		_, err := audit.Run(ctx, rdb, users)
		require.ErrorIs(t, err, audit.ErrConfig, "a value that does not hold its key")
		require.ErrorContains(t, err, "(unset Config.Prefix)")
	})
}

func only(set *prf.Set, id uint32) *prf.Set {
	return &prf.Set{PrimaryID: id, PRFs: map[uint32]prf.PRF{id: set.PRFs[id]}}
}
