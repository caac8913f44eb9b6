package rediswalk

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

	"github.com/sealcache/sealcache/internal/rediscmd"
	"github.com/sealcache/sealcache/internal/rediserr"
)

// layout is where the entries of a Cluster lie. SCAN visits one master after the other. It never names an entry that moves
// from a master that is still to be scanned to one that was scanned already.
type layout struct {
	// digest is equal at two times only if no entry has moved between masters in between. It covers the state that
	// each master reports of itself: id, slots, slots that are leaving or arriving, and epoch. It also covers its
	// calls of MIGRATE and RESTORE-ASKING, which move entries while a slot is open. The epoch grows when a slot
	// arrives or a replica is promoted, so slots that left and came back are noticed (cluster_legacy.c,
	// clusterBumpConfigEpochWithoutConsensus). It is empty for a single node.
	digest string
	// safe is false if entries might move without a change of the digest, or if a master was not asked.
	safe bool
	// unowned counts the slots that are not claimed by exactly one of the masters. A slot has no owner while its master
	// is down, and for a moment when it moves.
	unowned int
	// half counts the moves of slots that only one of the two masters reports, or that lead to a node without slots. The
	// client does not scan such a node, and the owner of a slot may not know which of its entries are elsewhere. It also counts
	// the masters with moves that do not show their counters.
	half int
}

// clusterSlots is how many slots every Cluster has.
const clusterSlots = 16384

// same reports whether a scan between two layouts has seen everything.
func (l layout) same(later layout) bool { return l.safe && later.safe && l.digest == later.digest }

// view is the Cluster as one master reports it.
type view struct {
	id      string
	text    string // part of the digest
	open    bool   // some of its slots are leaving or arriving
	counted bool   // text includes the counters
	owners  []string
	slots   [][2]int // ranges of the master's own slots
	moves   []string // of the open slots: slot, source and target
}

var errNoClusterNodes = errors.New("the Redis user may not call CLUSTER NODES (allow it with ACL SETUSER NAME +cluster|nodes)")

func (s *Servers) viewOf(ctx context.Context, node *redis.Client) (view, error) {
	nodes, err := node.ClusterNodes(ctx).Result()
	if rediserr.NotOffered(err) {
		return view{}, errNoClusterNodes
	}
	if err != nil {
		return view{}, CallError("CLUSTER NODES", err)
	}
	v := parseView(nodes)
	stats, err := s.info(ctx, node, "commandstats")
	if errors.Is(err, ErrNoInfo) {
		return v, nil
	}
	if err != nil {
		return view{}, err
	}
	v.counted = strings.Contains(stats, "cmdstat_")
	for _, name := range []string{"migrate", "restore-asking"} {
		calls, _, _ := strings.Cut(rediscmd.InfoField(stats, "cmdstat_"+name), ",")
		v.text += " " + calls
	}
	return v, nil
}

// parseView reads CLUSTER NODES: lines of id, address, flags, master, two times, epoch, state and slots.
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
					if m := moveOf(s, v.id); m != "" {
						v.moves = append(v.moves, m)
					}
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

// moveOf reads "[93->-ID]" of a slot that is leaving a master, and "[93-<-ID]" of one that is arriving. Both masters of a move
// then have the same text.
func moveOf(s, self string) string {
	s = strings.Trim(s, "[]")
	if slot, to, ok := strings.Cut(s, "->-"); ok {
		return slot + " " + self + " " + to
	}
	if slot, from, ok := strings.Cut(s, "-<-"); ok {
		return slot + " " + from + " " + self
	}
	return ""
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
	ends := make(map[string]int) // of each move
	for _, v := range views {
		for _, r := range v.slots {
			for slot := r[0]; slot <= r[1]; slot++ {
				masters[slot]++
			}
		}
		for _, m := range v.moves {
			ends[m]++
		}
		_, _ = fmt.Fprintln(h, v.text)
		if v.id == "" {
			l.safe = false
		}
		if v.open && !v.counted {
			l.safe = false
			l.half++
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
			l.unowned++
		}
	}
	for _, n := range ends {
		if n != 2 {
			l.safe = false
			l.half++
		}
	}
	l.digest = hex.EncodeToString(h.Sum(nil)[:16])
	return l
}
