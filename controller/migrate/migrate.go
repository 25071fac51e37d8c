// SPDX-License-Identifier: Apache-2.0

// Package migrate turns the objects of MetalLB into ours, and says what becomes
// of what has no counterpart. Kinds, fields and defaults are the same, so that
// most of it is another group; the rest is what MetalLB takes silently and we
// refuse, and what we mean otherwise. It is pure and no part of a road: who
// calls it reads and writes.
package migrate

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
)

// Level says how much a Note means.
type Level int

// From what can be read and forgotten to what keeps an object from being used.
const (
	Info    Level = iota
	Warning       // something is left out, or means something else
	Error         // the object is not usable as it is printed, or not printed
)

// String returns the level as a word.
func (l Level) String() string { return [...]string{"info", "warning", "error"}[l] }

// Note is something that a user has to know.
type Note struct {
	Level Level
	// About is the kind and name of MetalLB's object, empty where the note is
	// about all.
	About   string
	Message string
}

// String returns the note as one line.
func (n Note) String() string {
	if n.About == "" {
		return n.Level.String() + ": " + n.Message
	}
	return n.Level.String() + ": " + n.About + ": " + n.Message
}

// Converted is one of our objects with what there is to say of it.
type Converted struct {
	Object Object
	Notes  []Note
}

// Object is a pointer to one of our types.
type Object interface {
	metav1.Object
	runtime.Object
}

// Result is all that Convert made.
type Result struct {
	Converted []Converted // in the order of the input
	// Notes are about what was not converted.
	Notes []Note
}

// Worst is the highest level of all notes.
func (r Result) Worst() Level {
	worst := Info
	for n := range r.all {
		worst = max(worst, n.Level)
	}
	return worst
}

// All returns the notes, those about converted objects first.
func (r Result) All() []Note { return slices.Collect(r.all) }

func (r Result) all(yield func(Note) bool) {
	for _, c := range r.Converted {
		for _, n := range c.Notes {
			if !yield(n) {
				return
			}
		}
	}
	for _, n := range r.Notes {
		if !yield(n) {
			return
		}
	}
}

// Groups of MetalLB.
const (
	group    = "metallb.io"
	frrGroup = "frrk8s.metallb.io"
)

// Convert makes our objects of MetalLB's, for a namespace; an empty one keeps
// theirs. Other objects are passed over, with a Note where they say something
// about MetalLB.
func Convert(objects []*unstructured.Unstructured, namespace string) Result {
	c := &converter{namespace: namespace, seen: map[string]string{}}
	for _, u := range objects {
		c.convert(u)
	}
	if c.others > 0 {
		c.result.Notes = append(c.result.Notes, Note{Info, "", fmt.Sprintf("%d objects that are none of MetalLB's are passed over", c.others)})
	}
	c.check()
	return c.result
}

// converter is the work of one Convert.
type converter struct {
	namespace string
	result    Result
	seen      map[string]string // namespace that a kind and name came from

	others int // objects that are none of MetalLB's

	// Of the object that is being converted.
	about string
	notes []Note
}

func (c *converter) note(level Level, format string, args ...any) {
	c.notes = append(c.notes, Note{level, c.about, fmt.Sprintf(format, args...)})
}

func (c *converter) convert(u *unstructured.Unstructured) {
	c.about, c.notes = u.GetKind()+" "+cmp.Or(u.GetName(), "without a name"), nil
	var object Object
	switch gvk := u.GroupVersionKind(); {
	case gvk.Group == group:
		object = c.own(u, gvk)
	default:
		c.foreign(u, gvk)
	}
	if object == nil {
		c.result.Notes = append(c.result.Notes, c.notes...)
		return
	}
	c.result.Converted = append(c.result.Converted, Converted{object, c.notes})
}

// own converts an object of MetalLB's group, or says why not.
func (c *converter) own(u *unstructured.Unstructured, gvk schema.GroupVersionKind) Object {
	switch gvk.Kind {
	case "ServiceL2Status", "ServiceBGPStatus", "ConfigurationState", "BGPSessionState":
		c.note(Info, "is what MetalLB says about its own state: left out; Fairlead says in conditions of Services and of its objects what is used")
		return nil
	case "AddressPool":
		c.note(Error, "is of a kind that MetalLB removed: left out; write an IPAddressPool with its addresses, and an L2Advertisement or BGPAdvertisement for its protocol")
		return nil
	case "MetalLB":
		c.note(Info, "is what MetalLB's operator installs from: left out; Fairlead is installed with Helm or manifests")
		return nil
	}
	object := newObject(gvk.Kind)
	if object == nil {
		c.note(Warning, "has no counterpart: left out")
		return nil
	}
	if v := gvk.Version; v != "v1beta1" && (gvk.Kind != "BGPPeer" || v != "v1beta2") {
		c.note(Warning, "is of version %s, which is not known: read as v1beta1", v)
	}
	if !c.read(u, object) || !c.first(u) {
		return nil
	}
	object.GetObjectKind().SetGroupVersionKind(v1beta1.GroupVersion.WithKind(gvk.Kind))
	c.metadata(u, object)
	switch o := object.(type) {
	case *v1beta1.IPAddressPool:
		c.pool(o)
	case *v1beta1.L2Advertisement:
		c.l2(o)
	case *v1beta1.BGPAdvertisement:
		c.bgp(o, u)
	case *v1beta1.BGPPeer:
		c.peer(o, u, gvk.Version)
	case *v1beta1.Community:
		c.community(o)
	case *v1beta1.BFDProfile:
		c.profile(o)
	}
	return object
}

func newObject(kind string) Object {
	switch kind {
	case "IPAddressPool":
		return new(v1beta1.IPAddressPool)
	case "L2Advertisement":
		return new(v1beta1.L2Advertisement)
	case "BGPAdvertisement":
		return new(v1beta1.BGPAdvertisement)
	case "BGPPeer":
		return new(v1beta1.BGPPeer)
	case "Community":
		return new(v1beta1.Community)
	case "BFDProfile":
		return new(v1beta1.BFDProfile)
	}
	return nil
}

// read fills object from u, without its metadata and status. A field that is
// not known is left out and told of.
func (c *converter) read(u *unstructured.Unstructured, object Object) bool {
	content := map[string]any{}
	if spec, ok := u.Object["spec"]; ok {
		content["spec"] = spec
	}
	for _, name := range slices.Sorted(maps.Keys(u.Object)) {
		if !slices.Contains([]string{"apiVersion", "kind", "metadata", "spec", "status"}, name) {
			c.note(Warning, "%s: MetalLB has no such field: left out", name)
		}
	}
	err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(content, object, true)
	strict, ok := runtime.AsStrictDecodingError(err)
	switch {
	case err == nil:
		return true
	case !ok:
		c.note(Error, "%v: left out", err)
		return false
	}
	for _, e := range strict.Errors() {
		c.note(Warning, "%v: MetalLB does not know it either: left out%s", e, alike(e, object))
	}
	return true
}
