// SPDX-License-Identifier: Apache-2.0

package helm_test

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/deploy/helm"
)

func TestParseValues(t *testing.T) {
	const text = `# About the file.

a:
  # One
  # two.
  b: 1
  c:
    # Three.
    d: {x: [1, "2"]}
# Four: all of it.
e:
  f: g
`
	got, err := helm.ParseValues([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	want := []helm.Value{
		{Path: "a.b", Default: "1", Comment: "One two."},
		{Path: "a.c.d", Default: `{x: [1, "2"]}`, Comment: "Three."},
		{Path: "e", Default: "{f: g}", Comment: "Four: all of it."},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestParseValuesWithoutComment(t *testing.T) {
	_, err := helm.ParseValues([]byte("a:\n  b: 1\n"))
	if err == nil || !strings.Contains(err.Error(), "value a.b has no comment") {
		t.Errorf("error %v", err)
	}
}

func TestTableNeedsPlace(t *testing.T) {
	if text, err := helm.WithTable("# nothing\n", nil); err == nil {
		t.Errorf("made %q", text)
	}
}

// schema is the part of a JSON schema that is compared with the values.
type schema struct {
	Properties map[string]schema `json:"properties"`
}

// leaves are the paths below which the schema names no property.
func (s schema) leaves(path string) []string {
	if len(s.Properties) == 0 {
		return []string{path}
	}
	var all []string
	for name, property := range s.Properties {
		all = append(all, property.leaves(strings.TrimPrefix(path+"."+name, "."))...)
	}
	return all
}

// What is documented is accepted, and the other way round.
func TestSchemaHasAllValues(t *testing.T) {
	values, err := os.ReadFile("fairlead/values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := helm.ParseValues(values)
	if err != nil {
		t.Fatal(err)
	}
	var documented []string
	for _, v := range parsed {
		documented = append(documented, v.Path)
	}
	data, err := os.ReadFile("fairlead/values.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var s schema
	if err := json.Unmarshal(data, &s); err != nil {
		t.Fatal(err)
	}
	delete(s.Properties, "global") // Helm's own
	accepted := s.leaves("")
	slices.Sort(documented)
	slices.Sort(accepted)
	if diff := cmp.Diff(documented, accepted); diff != "" {
		t.Errorf("-documented +accepted:\n%s", diff)
	}
}
