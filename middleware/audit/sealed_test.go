package audit_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"github.com/sealcache/sealcache/aead"
	"github.com/sealcache/sealcache/middleware/audit"
)

func TestAnythingSealed(t *testing.T) {
	t.Parallel()
	amount := audit.Amount{Values: 1, Bytes: 1}
	for name, c := range map[string]struct {
		report audit.Report
		want   audit.Answer
	}{
		"no server":       {audit.Report{Complete: true}, audit.Unknown},
		"no namespace":    {audit.Report{Complete: true, Namespaces: []string{"shop"}}, audit.Unknown},
		"nothing":         {audit.Report{Complete: true, Seen: 1}, audit.No},
		"plaintext":       {audit.Report{Complete: true, Seen: 1, Prefix: "shop:", Total: audit.Tally{Plaintext: amount}}, audit.No},
		"sealed":          {audit.Report{Complete: true, Total: audit.Tally{Sealed: amount}}, audit.Yes},
		"sealed, so far":  {audit.Report{Total: audit.Tally{Sealed: amount}}, audit.Yes},
		"foreign":         {audit.Report{Complete: true, Total: audit.Tally{UnknownFormat: amount}}, audit.Yes},
		"jobs":            {audit.Report{Complete: true, Jobs: audit.JobTally{Results: audit.Tally{Sealed: amount}}}, audit.Yes},
		"half":            {audit.Report{}, audit.Unknown},
		"unwatched":       {audit.Report{Complete: true, Unwatched: true}, audit.Unknown},
		"wrong prefix":    {audit.Report{Complete: true, Prefix: "shpo:"}, audit.Unknown},
		"other databases": {audit.Report{Complete: true, Seen: 1, OtherDatabases: []int{1}}, audit.Unknown},
		"one database":    {audit.Report{Complete: true, Seen: 1, OtherDatabases: []int{1}, OneDatabase: true}, audit.No},
		"other types":     {audit.Report{Complete: true, Seen: 1, OtherTypes: map[string]int64{"hash": 1}}, audit.Unknown},
		"ignored types":   {audit.Report{Complete: true, Seen: 1, OtherTypes: map[string]int64{"hash": 1}, IgnoredTypes: allTypes}, audit.No},
		"strange jobs":    {audit.Report{Complete: true, Jobs: audit.JobTally{Unparsed: 1}}, audit.Unknown},
	} {
		answer, reasons := c.report.AnythingSealed()
		require.Equal(t, c.want, answer, name)
		require.Equal(t, c.want == audit.No, len(reasons) == 0, name)
	}
}

// A scan that may have missed entries gives no reassuring answer to any question.
func TestDoubtfulScans(t *testing.T) {
	t.Parallel()
	answers := func(r audit.Report) []audit.Answer {
		r.Seen, r.GivenPRFKeys, r.Started = 1, []uint32{2, 1}, time.Now()
		plaintext, _ := r.AnythingPlaintext()
		sealed, _ := r.AnythingSealed()
		disable, _ := r.MayDisable(1)
		destroy, _ := r.MayDestroy(1, audit.Conditions{
			Keyset:          []aead.KeyInfo{{ID: 1, Prefix: "TINK", Status: keyset.Enabled}, {ID: 2, Primary: true, Prefix: "TINK", Status: keyset.Enabled}},
			NotPrimarySince: r.Started.Add(-48 * time.Hour),
		})
		return []audit.Answer{plaintext, sealed, disable, destroy}
	}
	require.Equal(t, []audit.Answer{audit.No, audit.No, audit.Yes, audit.Yes}, answers(audit.Report{Complete: true}))
	unknown := []audit.Answer{audit.Unknown, audit.Unknown, audit.Unknown, audit.Unknown}
	for name, r := range map[string]audit.Report{
		"not complete": {},
		"unwatched":    {Complete: true, Unwatched: true},
		"moved":        {Complete: true, Moved: true},
	} {
		require.Equal(t, unknown, answers(r), name)
	}
}
