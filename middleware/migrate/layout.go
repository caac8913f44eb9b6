package migrate

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"
)

// layout is where the entries of a Cluster lie. SCAN goes through one master after the other: an entry that moves from one
// that is still to be scanned to one that has been is never seen.
type layout struct {
	// digest is the same at two moments only if no entry has moved from a master to another in between. It holds, as each
	// master says of itself: its id, its slots, those that it gives away or takes over, its epoch, which grows when a slot
	// has come to it or it was promoted, and how many MIGRATE and RESTORE-ASKING it has executed, which is how entries move
	// while a slot is open. Slots that went away and came back are in the same place, in another epoch: of two different
	// masters that took slots over, one did not have the greatest epoch, and got it (cluster_legacy.c,
	// clusterBumpConfigEpochWithoutConsensus). It is empty for a single node.
	digest string
	// safe is false if entries might move without a change of the digest, or lie on a master that was not asked.
	safe bool
}

// same tells whether what was scanned between two layouts is all that there was.
func (l layout) same(later layout) bool { return l.safe && later.safe && l.digest == later.digest }

// view is what one master says of the Cluster.
type view struct {
	id      string
	text    string // what goes into the digest
	open    bool   // slots of its own are given away or taken over
	counted bool   // text holds the counters
	owners  []string
}

func viewOf(ctx context.Context, node *redis.Client) (view, error) {
	nodes, err := node.ClusterNodes(ctx).Result()
	if redis.HasErrorPrefix(err, "NOPERM") {
		return view{}, errors.New("the user of Redis may not call CLUSTER NODES, without which it is not known whether slots move")
	}
	if err != nil {
		return view{}, fmt.Errorf("CLUSTER NODES: %w", err)
	}
	v := parseView(nodes)
	stats, err := node.Info(ctx, "commandstats").Result()
	switch {
	case redis.HasErrorPrefix(err, "NOPERM"):
		return v, nil
	case err != nil:
		return view{}, fmt.Errorf("INFO: %w", err)
	}
	v.counted = strings.Contains(stats, "cmdstat_")
	for _, name := range []string{"migrate", "restore-asking"} {
		calls, _, _ := strings.Cut(field(stats, "cmdstat_"+name+":"), ",")
		v.text += " " + calls
	}
	return v, nil
}

// parseView reads what CLUSTER NODES says, in lines of: id, address, flags, master, two times, epoch, state, slots.
func parseView(nodes string) view {
	const flags, epoch, slots = 2, 6, 8
	var v view
	for line := range strings.Lines(nodes) {
		f := strings.Fields(line)
		if len(f) < slots {
			continue
		}
		self := slices.Contains(strings.Split(f[flags], ","), "myself")
		if self {
			v.id = f[0]
			v.text = strings.Join(append([]string{f[0], f[epoch]}, f[slots:]...), " ")
			v.open = slices.ContainsFunc(f[slots:], func(s string) bool { return strings.HasPrefix(s, "[") })
		}
		if len(f) > slots {
			v.owners = append(v.owners, f[0])
		}
	}
	return v
}

func layoutOf(views []view) layout {
	slices.SortFunc(views, func(a, b view) int { return cmp.Compare(a.id, b.id) })
	h := sha256.New()
	l := layout{safe: true}
	for _, v := range views {
		_, _ = fmt.Fprintln(h, v.text)
		if v.id == "" || v.open && !v.counted {
			l.safe = false
		}
		for _, o := range v.owners {
			if !slices.ContainsFunc(views, func(w view) bool { return w.id == o }) {
				l.safe = false
			}
		}
	}
	l.digest = hex.EncodeToString(h.Sum(nil)[:16])
	return l
}
