// SPDX-License-Identifier: Apache-2.0

package crdtest

import (
	"bytes"
	"embed"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

//go:embed testdata/*.yaml
var testdata embed.FS

// Case is an object and what it is refused with: nothing if it is valid.
type Case struct {
	File   string
	Object *unstructured.Unstructured
	Errors []string // sorted; as Causes returns them
}

// Name tells cases apart.
func (c Case) Name() string { return c.Object.GetKind() + "/" + c.Object.GetName() }

// Cases reads the table: documents of YAML, each with the errors that it is
// refused with in comments "# error: " in front.
func Cases() ([]Case, error) {
	names, err := fs.Glob(testdata, "testdata/*.yaml")
	if err != nil {
		return nil, err
	}
	var cases []Case
	for _, name := range names {
		data, err := testdata.ReadFile(name)
		if err != nil {
			return nil, err
		}
		for i, document := range bytes.Split(data, []byte("\n---\n")) {
			c, err := readCase(document)
			if err != nil {
				return nil, fmt.Errorf("%s: document %d: %w", name, i, err)
			}
			c.File = name
			cases = append(cases, c)
		}
	}
	return cases, nil
}

func readCase(document []byte) (Case, error) {
	c := Case{Object: new(unstructured.Unstructured)}
	for line := range strings.Lines(string(document)) {
		if message, ok := strings.CutPrefix(line, "# error: "); ok {
			c.Errors = append(c.Errors, strings.TrimSuffix(message, "\n"))
		}
	}
	slices.Sort(c.Errors)
	// By way of JSON, for numbers as the API server has them.
	data, err := yaml.YAMLToJSONStrict(document)
	if err != nil {
		return c, err
	}
	return c, c.Object.UnmarshalJSON(data)
}
