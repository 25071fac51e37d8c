// SPDX-License-Identifier: Apache-2.0

package desired

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// value is one place of the document. Its methods report what is wrong there,
// with path and value, and go on with a harmless result.
type value struct {
	problems *[]error
	path     string
	node     *yaml.Node // nil: absent or null
}

// document returns the root of the only YAML document in data; of an empty one
// every field is absent.
func document(data []byte, problems *[]error) (value, error) {
	root := value{problems: problems}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var node, second yaml.Node
	switch err := decoder.Decode(&node); {
	case errors.Is(err, io.EOF):
		return root, nil
	case err != nil:
		return root, err
	}
	if err := decoder.Decode(&second); !errors.Is(err, io.EOF) {
		return root, errors.New("want one YAML document, found more")
	}
	return root.at("", node.Content[0]), nil
}

func (v value) at(path string, node *yaml.Node) value {
	if node != nil && node.Kind == yaml.ScalarNode && node.ShortTag() == "!!null" {
		node = nil
	}
	return value{v.problems, path, node}
}

// fail reports a problem of this place, after its path and value.
func (v value) fail(format string, args ...any) {
	v.report("%s: %s", v.shown(), fmt.Sprintf(format, args...))
}

// report reports a problem after the path only.
func (v value) report(format string, args ...any) {
	problem := fmt.Sprintf(format, args...)
	if v.path != "" {
		problem = v.path + ": " + problem
	}
	*v.problems = append(*v.problems, errors.New(problem))
}

// shown is the value as the operator wrote it: a string quoted, the rest bare.
func (v value) shown() string {
	switch {
	case v.node == nil:
		return "null"
	case v.node.Kind == yaml.MappingNode:
		return "a mapping"
	case v.node.Kind == yaml.SequenceNode:
		return "a list"
	case v.node.Kind == yaml.AliasNode:
		return "*" + v.node.Value
	case v.node.ShortTag() == "!!str":
		return strconv.Quote(shortened(v.node.Value))
	}
	return shortened(v.node.Value)
}

func shortened(s string) string {
	const longest = 100
	if len(s) <= longest {
		return s
	}
	return strings.ToValidUTF8(s[:longest], "") + "…"
}

// given says whether the field has a value.
func (v value) given() bool { return v.node != nil }

// required is given, and reports a missing one.
func (v value) required() bool {
	if !v.given() {
		v.report("missing")
	}
	return v.given()
}

// is says whether the node is of the kind and reports one that is not.
func (v value) is(kind yaml.Kind, want string) bool {
	if v.node.Kind == kind {
		return true
	}
	if v.node.Kind == yaml.AliasNode {
		want = "the value itself: aliases are not read"
	}
	v.fail("want %s", want)
	return false
}

// fields returns the named fields of a mapping; an absent one is a value
// without a node. Other and repeated fields are problems.
func (v value) fields(names ...string) map[string]value {
	fields := map[string]value{}
	mapping := v.given() && v.is(yaml.MappingNode, "a mapping")
	if v.given() && !mapping {
		v.problems = new([]error) // what is missing inside is no news
	}
	for _, name := range names {
		fields[name] = v.field(name, nil)
	}
	if !mapping {
		return fields
	}
	seen := map[string]bool{}
	for pair := range slices.Chunk(v.node.Content, 2) {
		name := pair[0].Value
		field := v.field(name, pair[1])
		_, known := fields[name]
		switch {
		case pair[0].Kind != yaml.ScalarNode || !known:
			field.report("unknown field: want %s", alternatives(slices.Sorted(maps.Keys(fields))))
		case seen[name]:
			field.report("given twice")
		default:
			fields[name] = field
		}
		seen[name] = true
	}
	return fields
}

// field is a field of a mapping. A name that could not be one is quoted.
func (v value) field(name string, node *yaml.Node) value {
	if strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' || r == '.' || r == ':' }) || name == "" {
		name = strconv.Quote(shortened(name))
	}
	if v.path != "" {
		name = v.path + "." + name
	}
	return v.at(name, node)
}

// list returns the elements of a sequence, without null ones, which are
// problems. With least > 0, so is a missing or a shorter list.
func (v value) list(least int) []value {
	if least > 0 && !v.required() || !v.given() || !v.is(yaml.SequenceNode, "a list") {
		return nil
	}
	if len(v.node.Content) < least {
		v.report("empty list: want %d at least", least)
	}
	var elements []value
	for i, node := range v.node.Content {
		if element := v.at(fmt.Sprintf("%s[%d]", v.path, i), node); element.required() {
			elements = append(elements, element)
		}
	}
	return elements
}

// scalar returns the text of a given scalar as the operator wrote it, whatever
// YAML takes it for. An absent one is not ok, but no problem either.
func (v value) scalar(want string) (raw string, ok bool) {
	if !v.given() || !v.is(yaml.ScalarNode, want) {
		return "", false
	}
	return v.node.Value, true
}

// text returns a given string.
func (v value) text() (text string, ok bool) {
	raw, ok := v.scalar("a string")
	if ok && v.node.ShortTag() != "!!str" {
		v.fail("want a string: put it in quotes")
		return "", false
	}
	return raw, ok
}

// number returns a decimal number; absent or wrong gives otherwise.
func (v value) number(least, most, otherwise int) int {
	want := fmt.Sprintf("a number, %d to %d", least, most)
	raw, ok := v.scalar(want)
	if !ok {
		return otherwise
	}
	n, err := strconv.Atoi(raw)
	switch {
	case v.node.ShortTag() != "!!int", strconv.Itoa(n) != raw && !errors.Is(err, strconv.ErrRange):
		v.fail("want %s", want)
	case err != nil, n < least, n > most:
		v.fail("want %d to %d", least, most)
	default:
		return n
	}
	return otherwise
}

// choice returns one of the alternatives; absent or wrong gives the first.
func (v value) choice(of ...string) string {
	// The text counts, since YAML 1.1 takes an unquoted off for a boolean.
	raw, ok := v.scalar(alternatives(of))
	switch {
	case !ok:
	case slices.Contains(of, raw):
		return raw
	default:
		v.fail("want %s", alternatives(of))
	}
	return of[0]
}

// duration returns a time such as 3h; absent or wrong gives otherwise.
func (v value) duration(least, most, otherwise time.Duration) time.Duration {
	want := fmt.Sprintf("a time such as 90s or 3h, %s to %s", brief(least), brief(most))
	raw, ok := v.scalar(want)
	if !ok {
		return otherwise
	}
	d, err := time.ParseDuration(raw)
	switch {
	case err != nil, v.node.ShortTag() != "!!str":
		v.fail("want %s", want)
	case d < least, d > most:
		v.fail("want %s to %s", brief(least), brief(most))
	default:
		return d
	}
	return otherwise
}

// memory returns bytes, written as such or with Ki, Mi or Gi; absent or wrong
// gives otherwise.
func (v value) memory(least, most, otherwise int) int {
	want := fmt.Sprintf("a size such as 64Mi, %dMi to %dMi", least>>20, most>>20)
	raw, ok := v.scalar(want)
	if !ok {
		return otherwise
	}
	digits, shift := raw, 0
	for i, unit := range []string{"Ki", "Mi", "Gi"} {
		if before, cut := strings.CutSuffix(raw, unit); cut {
			digits, shift = before, 10*(i+1)
		}
	}
	n, err := strconv.ParseUint(digits, 10, 32)
	if size := n << shift; err == nil && size >= uint64(least) && size <= uint64(most) {
		return int(size)
	}
	v.fail("want %s", want)
	return otherwise
}

// brief writes 24h0m0s as 24h.
func brief(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// alternatives joins "a, b or c".
func alternatives(of []string) string {
	if len(of) < 2 {
		return strings.Join(of, "")
	}
	return strings.Join(of[:len(of)-1], ", ") + " or " + of[len(of)-1]
}
