package main

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
)

// build describes this build.
type build struct {
	Version  string `json:"version"`
	Go       string `json:"go"`
	Revision string `json:"revision,omitempty"`
	Modified bool   `json:"modified,omitempty"`
}

func thisBuild() build {
	b := build{Version: "(devel)", Go: runtime.Version()}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if info.Main.Version != "" {
		b.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Revision = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

func versionText() string {
	b := thisBuild()
	text := fmt.Sprintf("sealcache %s %s", b.Version, b.Go)
	if b.Revision != "" {
		text += " " + b.Revision
		if b.Modified {
			text += " modified"
		}
	}
	return text
}

func versionCommand() entry {
	return entry{use: "version", short: "Show the version", make: func() command { return new(versionRun) }, example: "  sealcache version --json"}
}

type versionRun struct{ json bool }

func (v *versionRun) declare(f *flags) { f.BoolVar(&v.json, "json", false, jsonUse) }

func (v *versionRun) run(_ context.Context, p *program, f *flags) (int, error) {
	if v.json {
		return exitDone, writeJSON(p.stdout, struct {
			header
			build
		}{newHeader(f), thisBuild()})
	}
	_, err := fmt.Fprintln(p.stdout, versionText())
	return exitDone, err
}
