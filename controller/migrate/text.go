// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

// Parse reads documents of YAML or JSON, and the objects of lists among them.
// The error joins what is wrong with each; the other objects are returned.
// source is what errors call the text.
func Parse(source string, text []byte) ([]*unstructured.Unstructured, error) {
	var all []*unstructured.Unstructured
	var problems []error
	reader := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	for n := 1; ; n++ {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return all, errors.Join(problems...)
		}
		if err == nil {
			var some []*unstructured.Unstructured
			some, err = objects(document)
			all = append(all, some...)
		}
		if err != nil {
			problems = append(problems, fmt.Errorf("%s: document %d: %w", source, n, err))
		}
	}
}

// objects are those of one document, which may be a list or empty.
func objects(document []byte) ([]*unstructured.Unstructured, error) {
	data, err := yaml.YAMLToJSON(document)
	if err != nil {
		return nil, err
	}
	if string(data) == "null" {
		return nil, nil
	}
	u := new(unstructured.Unstructured)
	if err := u.UnmarshalJSON(data); err != nil {
		return nil, err
	}
	if !u.IsList() {
		return []*unstructured.Unstructured{u}, nil
	}
	list, err := u.ToList()
	if err != nil {
		return nil, err
	}
	var all []*unstructured.Unstructured
	for i := range list.Items {
		all = append(all, &list.Items[i])
	}
	return all, nil
}

// YAML returns the converted objects, each with its notes in comments. Notes
// about what was not converted come first.
func (r Result) YAML() ([]byte, error) {
	var b bytes.Buffer
	comments(&b, r.Notes)
	for i, c := range r.Converted {
		if i > 0 || b.Len() > 0 {
			b.WriteString("---\n")
		}
		comments(&b, c.Notes)
		text, err := yaml.Marshal(c.Object)
		if err != nil {
			return nil, fmt.Errorf("write %s %s: %w", c.Object.GetObjectKind().GroupVersionKind().Kind, c.Object.GetName(), err)
		}
		b.Write(text)
	}
	return b.Bytes(), nil
}

func comments(b *bytes.Buffer, notes []Note) {
	for _, n := range notes {
		for line := range bytes.Lines([]byte(n.String())) {
			fmt.Fprintf(b, "# %s\n", bytes.TrimSuffix(line, []byte("\n")))
		}
	}
}
