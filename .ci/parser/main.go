// Reads an exposition from standard input with the parser of a Prometheus server and prints what the
// server would have stored: one JSON object a sample. The only argument is the content type of the
// reply. A syntax error is printed and ends the program with status 1.
//
// The shape of the objects is the same as that of parse.py beside this file. Values are strings,
// because JSON has no spelling for NaN and the infinities.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
)

// A sample is one line of the exposition. Family is the name on the metadata lines, empty if there
// are none. Start is the moment the series began, in milliseconds, zero if the exposition does not say.
type sample struct {
	Family    string            `json:"family"`
	Type      string            `json:"type"`
	Help      string            `json:"help"`
	Unit      string            `json:"unit"`
	Name      string            `json:"name"`
	Labels    map[string]string `json:"labels"`
	Value     string            `json:"value"`
	Timestamp *int64            `json:"timestamp"`
	Start     int64             `json:"start"`
	Exemplars []observed        `json:"exemplars"`
	Histogram string            `json:"histogram,omitempty"`
}

// Observed is an exemplar. Its timestamp is in milliseconds, absent if the exposition has none.
type observed struct {
	Labels    map[string]string `json:"labels"`
	Value     string            `json:"value"`
	Timestamp *int64            `json:"timestamp"`
}

// Metadata is what the lines that begin with # say about a family.
type metadata struct {
	kind, help, unit string
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: textparse CONTENT-TYPE < exposition")
		os.Exit(2)
	}
	if err := run(os.Stdin, os.Stdout, os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "textparse:", err)
		os.Exit(1)
	}
}

func run(input io.Reader, output io.Writer, contentType string) error {
	exposition, err := io.ReadAll(input)
	if err != nil {
		return err
	}
	samples, families, err := parse(exposition, contentType)
	if err != nil {
		return err
	}
	lines := bufio.NewWriter(output)
	encoder := json.NewEncoder(lines)
	encoder.SetEscapeHTML(false)
	for _, each := range samples {
		each.Family = familyOf(each.Name, families)
		if known, found := families[each.Family]; found {
			each.Type, each.Help, each.Unit = known.kind, known.help, known.unit
		}
		if err := encoder.Encode(each); err != nil {
			return err
		}
	}
	return lines.Flush()
}

// Parse walks the exposition as a scrape does. Every slice the parser hands out is copied: it is
// overwritten by the next entry.
func parse(exposition []byte, contentType string) ([]sample, map[string]*metadata, error) {
	parser, err := textparse.New(exposition, contentType, labels.NewSymbolTable(), textparse.ParserOptions{
		OpenMetricsSkipSTSeries:                 true,
		KeepClassicOnClassicAndNativeHistograms: true,
	})
	if err != nil {
		return nil, nil, err
	}
	families := map[string]*metadata{}
	family := func(name []byte) *metadata {
		known, found := families[string(name)]
		if !found {
			known = &metadata{}
			families[string(name)] = known
		}
		return known
	}
	samples := []sample{}
	for {
		entry, err := parser.Next()
		if errors.Is(err, io.EOF) {
			return samples, families, nil
		}
		if err != nil {
			return nil, nil, err
		}
		switch entry {
		case textparse.EntryType:
			name, kind := parser.Type()
			family(name).kind = string(kind)
		case textparse.EntryHelp:
			name, help := parser.Help()
			family(name).help = string(help)
		case textparse.EntryUnit:
			name, unit := parser.Unit()
			family(name).unit = string(unit)
		case textparse.EntrySeries, textparse.EntryHistogram:
			samples = append(samples, read(parser, entry))
		}
	}
}

func read(parser textparse.Parser, entry textparse.Entry) sample {
	var timestamp *int64
	var value float64
	var histogram string
	if entry == textparse.EntrySeries {
		_, timestamp, value = parser.Series()
	} else {
		_, at, integers, floats := parser.Histogram()
		timestamp = at
		if integers != nil {
			histogram = integers.String()
		} else {
			histogram = floats.String()
		}
	}
	var set labels.Labels
	parser.Labels(&set)
	read := sample{
		Name:      set.Get(labels.MetricName),
		Labels:    plain(set),
		Value:     number(value),
		Timestamp: copied(timestamp),
		Start:     parser.StartTimestamp(),
		Exemplars: []observed{},
		Histogram: histogram,
	}
	for {
		var found exemplar.Exemplar
		if !parser.Exemplar(&found) {
			return read
		}
		each := observed{Labels: plain(found.Labels), Value: number(found.Value)}
		if found.HasTs {
			each.Timestamp = copied(&found.Ts)
		}
		read.Exemplars = append(read.Exemplars, each)
	}
}

// FamilyOf finds the metadata that speaks for a sample: under its own name, or under the name
// without the suffix that its type adds.
func familyOf(name string, families map[string]*metadata) string {
	if _, found := families[name]; found {
		return name
	}
	for _, suffix := range []string{"_total", "_bucket", "_sum", "_count", "_created", "_info"} {
		if stem, cut := strings.CutSuffix(name, suffix); cut {
			if _, found := families[stem]; found {
				return stem
			}
		}
	}
	return ""
}

// Plain is the label set without the metric's name.
func plain(set labels.Labels) map[string]string {
	pairs := map[string]string{}
	set.Range(func(label labels.Label) {
		if label.Name != labels.MetricName {
			pairs[label.Name] = strings.Clone(label.Value)
		}
	})
	return pairs
}

func number(value float64) string {
	return strconv.FormatFloat(value, 'g', -1, 64)
}

func copied(timestamp *int64) *int64 {
	if timestamp == nil {
		return nil
	}
	at := *timestamp
	return &at
}
