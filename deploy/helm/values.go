// SPDX-License-Identifier: Apache-2.0

package helm

import (
	"errors"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Value is a documented value of the chart: a key of values.yaml that has a
// comment, with all that is below it.
type Value struct {
	Path    string // "agent.limits.flows"
	Default string // YAML in one line
	Comment string
}

// ParseValues finds them, in the order of the file. A key without a comment
// has to have keys below it that do.
func ParseValues(data []byte) ([]Value, error) {
	var document yaml.Node
	if err := yaml.Unmarshal(data, &document); err != nil {
		return nil, fmt.Errorf("parse values: %w", err)
	}
	if len(document.Content) != 1 || document.Content[0].Kind != yaml.MappingNode {
		return nil, errors.New("parse values: want a mapping")
	}
	return appendValues(nil, "", document.Content[0])
}

func appendValues(values []Value, path string, mapping *yaml.Node) (_ []Value, err error) {
	for i := 0; i < len(mapping.Content); i += 2 {
		key, value := mapping.Content[i], mapping.Content[i+1]
		here := strings.TrimPrefix(path+"."+key.Value, ".")
		switch {
		case key.HeadComment != "":
			text, err := oneLine(value)
			if err != nil {
				return nil, fmt.Errorf("value %s: %w", here, err)
			}
			comment := strings.TrimSpace(strings.ReplaceAll(key.HeadComment, "#", ""))
			values = append(values, Value{Path: here, Default: text, Comment: strings.Join(strings.Fields(comment), " ")})
		case value.Kind == yaml.MappingNode && len(value.Content) > 0:
			if values, err = appendValues(values, here, value); err != nil {
				return nil, err
			}
		default:
			return nil, fmt.Errorf("value %s has no comment", here)
		}
	}
	return values, nil
}

// oneLine writes a value in YAML's flow style.
func oneLine(value *yaml.Node) (string, error) {
	flow := *value
	flow.Style |= yaml.FlowStyle
	out, err := yaml.Marshal(&flow)
	if err != nil {
		return "", fmt.Errorf("encode: %w", err)
	}
	return strings.Join(strings.Fields(string(out)), " "), nil
}

// The lines around the table in the chart's README.
const (
	tableBegin = "<!-- values: begin, made by make manifests -->\n"
	tableEnd   = "<!-- values: end -->\n"
)

// WithTable returns the README with the table of these values.
func WithTable(readme string, values []Value) (string, error) {
	before, rest, ok := strings.Cut(readme, tableBegin)
	_, after, ended := strings.Cut(rest, tableEnd)
	if !ok || !ended {
		return "", fmt.Errorf("no place for the table of values: want lines %q and %q", tableBegin, tableEnd)
	}
	var b strings.Builder
	b.WriteString("| Value | Default | |\n|---|---|---|\n")
	for _, v := range values {
		fmt.Fprintf(&b, "| `%s` | `%s` | %s |\n", v.Path, v.Default, strings.ReplaceAll(v.Comment, "|", "\\|"))
	}
	return before + tableBegin + b.String() + tableEnd + after, nil
}
