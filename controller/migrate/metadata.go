// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	"maps"
	"reflect"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// first says whether this is the first object of its kind and name.
func (c *converter) first(u *unstructured.Unstructured) bool {
	from, again := c.seen[c.about]
	switch {
	case !again:
		c.seen[c.about] = u.GetNamespace()
		return true
	case c.namespace == "" && from != u.GetNamespace():
		return true
	case from == u.GetNamespace():
		c.note(Error, "is there twice: the second one is left out")
	default:
		c.note(Error, "is in namespace %q and in %q: the second one is left out; MetalLB uses that of its own namespace alone", from, u.GetNamespace())
	}
	return false
}

// metadata takes over what an operator writes, and nothing that a server does.
func (c *converter) metadata(u *unstructured.Unstructured, object Object) {
	object.SetName(u.GetName())
	object.SetNamespace(u.GetNamespace())
	if c.namespace != "" {
		object.SetNamespace(c.namespace)
	}
	object.SetLabels(u.GetLabels())
	annotations := maps.Clone(u.GetAnnotations())
	delete(annotations, corev1.LastAppliedConfigAnnotation)
	object.SetAnnotations(annotations)
	if len(u.GetFinalizers())+len(u.GetOwnerReferences()) > 0 {
		c.note(Info, "finalizers and owner references are left out")
	}
}

// foreign tells of objects of other groups that MetalLB reads or writes.
func (c *converter) foreign(u *unstructured.Unstructured, gvk schema.GroupVersionKind) {
	switch kind := gvk.Kind; {
	case gvk.Group == frrGroup && kind == "FRRConfiguration":
		c.note(Warning, "configures FRR, which Fairlead does not use: left out")
	case gvk.Group == frrGroup:
		c.note(Info, "is what FRR says about its own state: left out")
	case kind == "ConfigMap" && u.GetName() == "metallb-excludel2":
		c.note(Warning, "excludes interfaces by regular expressions, and has no counterpart: name the wanted ones in interfaces of L2Advertisements, where * and ? stand for any characters and for one")
	case kind == "ConfigMap" && u.GetName() == "bgpextras":
		c.note(Warning, "configures FRR, which Fairlead does not use: left out")
	case kind == "ConfigMap" && u.GetName() == "config" && strings.HasPrefix(u.GetNamespace(), "metallb"):
		c.note(Error, "is configuration for MetalLB before 0.13: left out; turn it into objects with MetalLB's own tool first")
	default:
		c.others++
	}
}

// alike suggests the field that differs from an unknown one in case alone, as
// a text to append.
func alike(unknown error, object Object) string {
	_, path, ok := strings.Cut(unknown.Error(), `"`)
	if !ok {
		return ""
	}
	field := path[strings.LastIndexByte(path, '.')+1:]
	field = strings.TrimSuffix(field, `"`)
	if name := fieldLike(reflect.TypeOf(object).Elem(), field, 0); name != "" {
		return "; did you mean " + name + "?"
	}
	return ""
}

// maxDepth is how deep fields lie in our types, with room to spare.
const maxDepth = 8

func fieldLike(t reflect.Type, name string, depth int) string {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || depth > maxDepth {
		return ""
	}
	for i := range t.NumField() {
		known, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		if known != "" && strings.EqualFold(known, name) {
			return known
		}
		if found := fieldLike(t.Field(i).Type, name, depth+1); found != "" {
			return found
		}
	}
	return ""
}
