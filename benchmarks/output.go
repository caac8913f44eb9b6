package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
)

// report is the result of a run.
type report struct {
	Machine Machine  `json:"machine"`
	Scale   string   `json:"scale"`
	HeapMiB int      `json:"heap_mib"`
	Results []Result `json:"results"`
}

// writers returns the formats of -o.
func writers() map[string]func(io.Writer, report) error {
	return map[string]func(io.Writer, report) error{"text": writeText, "markdown": writeMarkdown, "json": writeJSON}
}

func writeJSON(w io.Writer, r report) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(r)
}

func columns() []string {
	return []string{"row", "case", "what", "median", "min..max", "budget", "", "cpu", "p50", "p99", "figures"}
}

func cells(r Result) []string {
	c := []string{r.Row, r.Case, r.What, number(r.Value.Median) + unit(r.Unit), number(r.Value.Min) + ".." + number(r.Value.Max), "", r.Verdict, "", "", "", r.Figures}
	if r.Value.Min == r.Value.Max {
		c[4] = ""
	}
	if r.Budget != nil {
		c[5] = r.Budget.String()
	}
	for i, ratio := range []*Spread{r.CPU, r.P50, r.P99} {
		if ratio != nil {
			c[7+i] = number(ratio.Median) + "x"
		}
	}
	return c
}

func unit(name string) string {
	if name == "x" {
		return name
	}
	return " " + name
}

// heading describes the machine and the run.
func heading(r report) string {
	m := r.Machine
	parts := []string{m.Go, m.System, strconv.Itoa(m.CPUs) + " CPUs"}
	if m.CPU != "" {
		parts = append(parts, m.CPU)
	}
	if m.Redis != "" {
		parts = append(parts, "Redis "+m.Redis)
	}
	if m.Load != "" {
		parts = append(parts, "load "+m.Load)
	}
	if r.Scale != fullScale.String() {
		parts = append(parts, r.Scale+" run")
	}
	if r.HeapMiB > 0 {
		parts = append(parts, strconv.Itoa(r.HeapMiB)+" MiB of live heap")
	}
	return strings.Join(parts, ", ")
}

// writeText prints columns. It leaves out a row or case that the line before names already.
func writeText(w io.Writer, r report) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "%s\n\n%s\n", heading(r), strings.Join(columns(), "\t"))
	var before Result
	for _, result := range r.Results {
		line := cells(result)
		if result.Row == before.Row && result.Case == before.Case {
			line[0], line[1] = "", ""
		}
		fmt.Fprintln(table, strings.Join(line, "\t"))
		before = result
	}
	return table.Flush() // returns the first error of a write
}

// writeMarkdown prints a table for documents.
func writeMarkdown(w io.Writer, r report) error {
	var out strings.Builder
	fmt.Fprintf(&out, "%s\n\n", heading(r))
	line := func(cells []string) {
		for i, cell := range cells {
			cells[i] = strings.ReplaceAll(cell, "|", "\\|")
		}
		fmt.Fprintf(&out, "| %s |\n", strings.Join(cells, " | "))
	}
	line(columns())
	fmt.Fprintf(&out, "|%s\n", strings.Repeat("---|", len(columns())))
	for _, result := range r.Results {
		line(cells(result))
	}
	_, err := io.WriteString(w, out.String())
	return err
}

// saveReport writes a report into a folder, as JSON and as Markdown.
func saveReport(folder string, r report) error {
	if err := os.MkdirAll(folder, 0o750); err != nil {
		return fmt.Errorf("-save: %w", err)
	}
	for name, write := range map[string]func(io.Writer, report) error{"results.json": writeJSON, "results.md": writeMarkdown} {
		var out bytes.Buffer
		if err := write(&out, r); err != nil {
			return fmt.Errorf("-save: %w", err)
		}
		if err := os.WriteFile(filepath.Join(folder, name), out.Bytes(), 0o600); err != nil {
			return fmt.Errorf("-save: %w", err)
		}
	}
	return nil
}
