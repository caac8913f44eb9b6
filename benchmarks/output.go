package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// report is all that a run says.
type report struct {
	Machine Machine  `json:"machine"`
	Scale   string   `json:"scale"`
	HeapMiB int      `json:"heap_mib"`
	Results []Result `json:"results"`
}

// writers are the formats of -o.
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

// heading says where and how.
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

// writeText prints columns that line up. A row or case that is the line's before is left out.
func writeText(w io.Writer, r report) error {
	lines := [][]string{columns()}
	for _, result := range r.Results {
		lines = append(lines, cells(result))
	}
	widths := make([]int, len(lines[0]))
	for _, line := range lines {
		for i, cell := range line {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n", heading(r))
	var row, name string
	for i, line := range lines {
		if line[0] != row && i > 1 {
			b.WriteByte('\n')
		}
		same := line[0] == row && line[1] == name
		if row, name = line[0], line[1]; same {
			line[0], line[1] = "", ""
		}
		var out strings.Builder
		for i, cell := range line {
			pad := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i >= 3 && i <= 9 && i != 6 { // figures stand under each other by their ends
				out.WriteString(pad + cell + "  ")
			} else {
				out.WriteString(cell + pad + "  ")
			}
		}
		b.WriteString(strings.TrimRight(out.String(), " ") + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func writeMarkdown(w io.Writer, r report) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s.\n\n", heading(r))
	line := func(cells []string) { b.WriteString("| " + strings.Join(cells, " | ") + " |\n") }
	line(columns())
	b.WriteString("|---|---|---|--:|--:|--:|---|--:|--:|--:|---|\n")
	for _, result := range r.Results {
		c := cells(result)
		for i := range c {
			c[i] = strings.ReplaceAll(c[i], "|", `\|`)
		}
		if result.Verdict == missedVerdict {
			c[6] = "**" + missedVerdict + "**"
		}
		line(c)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
