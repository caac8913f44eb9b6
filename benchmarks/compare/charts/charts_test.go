package main

import (
	"bytes"
	"encoding/xml"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

const results = `{"machine": {"go": "go1.26", "system": "linux/amd64", "cpu": "Test CPU", "cpus": 2, "redis": "7.0", "load": "0.1"}, "results": [
	{"row": "combine", "case": "get, 1 KiB, 8 callers", "what": "sealed / baseline", "unit": "x", "value": {"median": 1}},
	{"row": "combine", "case": "get, 1 KiB, 64 callers", "what": "sealed / baseline", "unit": "x", "value": {"median": 3.5}},
	{"row": "combine", "case": "get, 1 KiB, 64 callers", "what": "sealed / baseline, p99", "unit": "x", "value": {"median": 0.7}},
	{"row": "near", "case": "get, 64 B, 8 callers", "what": "near / baseline", "unit": "x", "value": {"median": 22}},
	{"row": "near", "case": "get, 1 KiB, 8 callers", "what": "near / baseline", "unit": "x", "value": {"median": 11}},
	{"row": "path", "case": "64 B", "what": "CPU time", "unit": "x", "value": {"median": 1.25}},
	{"row": "path", "case": "64 B", "what": "allocations", "unit": "allocs", "value": {"median": 1}}
]}`

// Each row becomes a well-formed SVG with the machine, the units of its axes and its ways.
func TestCharts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "results.json")
	require.NoError(t, os.WriteFile(file, []byte(results), 0o600))
	var stdout, stderr bytes.Buffer
	require.Zero(t, run([]string{"-o", filepath.Join(dir, "charts"), file}, &stdout, &stderr), stderr.String())
	for name, texts := range map[string][]string{
		"combine-get-1-kib.svg": {"Test CPU", "concurrent callers", "throughput / baseline (x)", "sealed / baseline", ">64<"},
		"near.svg":              {"get, 64 B, 8 callers: near / baseline", "get, 1 KiB, 8 callers"},
		"path.svg":              {"Test CPU", "ratio (x)", "64 B: CPU time"},
	} {
		b, err := os.ReadFile(filepath.Join(dir, "charts", name))
		require.NoError(t, err)
		require.Contains(t, stdout.String(), name)
		for _, text := range texts {
			require.Contains(t, string(b), text, name)
		}
		d := xml.NewDecoder(bytes.NewReader(b))
		for err == nil {
			_, err = d.Token()
		}
		require.ErrorIs(t, err, io.EOF)
	}
	require.NotContains(t, stdout.String(), "allocs")
}

func TestBadArguments(t *testing.T) {
	t.Parallel()
	var stdout, stderr bytes.Buffer
	require.Equal(t, 2, run(nil, &stdout, &stderr))
	require.Equal(t, 1, run([]string{filepath.Join(t.TempDir(), "absent.json")}, &stdout, &stderr))
	bad := filepath.Join(t.TempDir(), "bad.json")
	require.NoError(t, os.WriteFile(bad, []byte("{"), 0o600))
	require.Equal(t, 1, run([]string{bad}, &stdout, &stderr))
}
