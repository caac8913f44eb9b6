package migrate

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
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
	// astray is how many slots are not those of exactly one of the masters that were asked, by what each says of itself. A
	// slot is nobody's when its master is down, or for a moment when it moves: where its entries lie, or will, is not known.
	astray int
}

// clusterSlots is how many slots every Cluster has.
const clusterSlots = 16384

// same tells whether what was scanned between two layouts is all that there was.
func (l layout) same(later layout) bool { return l.safe && later.safe && l.digest == later.digest }

// view is what one master says of the Cluster.
type view struct {
	id      string
	text    string // what goes into the digest
	open    bool   // slots of its own are given away or taken over
	counted bool   // text holds the counters
	owners  []string
	slots   [][2]int // first and last of those that the master has
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
			for _, s := range f[slots:] {
				if strings.HasPrefix(s, "[") {
					v.open = true
				} else if first, last, ok := slotRange(s); ok {
					v.slots = append(v.slots, [2]int{first, last})
				}
			}
		}
		if len(f) > slots {
			v.owners = append(v.owners, f[0])
		}
	}
	return v
}

// slotRange reads "17" or "0-5460".
func slotRange(s string) (first, last int, ok bool) {
	from, to, several := strings.Cut(s, "-")
	if !several {
		to = from
	}
	first, err := strconv.Atoi(from)
	last, err2 := strconv.Atoi(to)
	return first, last, err == nil && err2 == nil && 0 <= first && first <= last && last < clusterSlots
}

func layoutOf(views []view) layout {
	slices.SortFunc(views, func(a, b view) int { return cmp.Compare(a.id, b.id) })
	h := sha256.New()
	l := layout{safe: true}
	var masters [clusterSlots]int
	for _, v := range views {
		for _, r := range v.slots {
			for slot := r[0]; slot <= r[1]; slot++ {
				masters[slot]++
			}
		}
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
	for _, n := range masters {
		if n != 1 {
			l.safe = false
			l.astray++
		}
	}
	l.digest = hex.EncodeToString(h.Sum(nil)[:16])
	return l
}
