package fxmodule

import (
	"regexp"
	"slices"
	"strings"

	"go.uber.org/fx"
)

// warnAboutStrays warns of stores that the application provides where Module does not reach: with a name or in a group
// of fx's, whose decorators know neither before they are written down.
func (s *system) warnAboutStrays() {
	if found := strays(s.in.Graph, s.in.Config); len(found) > 0 {
		s.log.Warn("sealcache: the application provides stores under a name or in a group, which fxmodule leaves as they are, in clear unless the application seals them: make them caches of the Config, or wrap them with middleware.New",
			"stores", found)
	}
}

// provided tells whether something provides a type without a name: whether fx, asked for it as an optional value, may
// also have left it out for another reason than that there is none.
func provided(graph fx.DotGraph, typename string) bool {
	return regexp.MustCompile(`(?m)^\s*"` + regexp.QuoteMeta(typename) + `" \[label=`).MatchString(string(graph))
}

// providedApart tells whether something provides a type under a name or in a group.
func providedApart(graph fx.DotGraph, typename string) bool {
	return regexp.MustCompile(`(?m)^\s*"` + regexp.QuoteMeta(typename) + `\[(name|group)=.+\]\d*" \[label=`).MatchString(string(graph))
}

// strayHandlers tells whether handlers are provided where newMux does not see them.
func strayHandlers(graph fx.DotGraph) bool {
	for _, m := range regexp.MustCompile(`(?m)^\s*"fxmodule\.Handlers(\[(name|group)=(.+)\]\d*)?" \[label=`).FindAllStringSubmatch(string(graph), -1) {
		if m[2] != "group" || m[3] != "jobs" {
			return true
		}
	}
	return false
}

// untakenHandlers tells whether functions of the type that Handlers are, but not of Handlers' own, are in the group "jobs",
// and no constructor takes them from there: an application may have a mux of its own making that does.
func untakenHandlers(graph fx.DotGraph) bool {
	const group = `"[type=func(*asynq.ServeMux) group=jobs]"`
	drawing := string(graph)
	return strings.Contains(drawing, group+" [shape=") && !regexp.MustCompile(`constructor_\d+ -> `+regexp.QuoteMeta(group)).MatchString(drawing)
}

// strays finds such stores in fx's drawing of the graph, which has them as nodes. It is the one place where fx tells
// what has been provided.
func strays(graph fx.DotGraph, c Config) []string {
	var found []string
	node := regexp.MustCompile(`(?m)^\s*"store\.StoreInterface\[(name|group)=(.+)\]\d*" \[label=`)
	for _, m := range node.FindAllStringSubmatch(string(graph), -1) {
		if _, ours := c.Caches[m[2]]; ours && m[1] == "name" {
			continue // by Named
		}
		found = append(found, m[1]+" "+m[2])
	}
	slices.Sort(found)
	return slices.Compact(found)
}
