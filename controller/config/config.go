// SPDX-License-Identifier: Apache-2.0

// Package config reads the objects of the group fairlead.io as a whole: pools
// that overlap, references to nothing, advertisements that contradict each
// other. It stands on road A and is pure. What can be seen in one object alone,
// the schema refuses when the object is applied; what is left is said in the
// condition Valid of the object, and taken out as narrowly as it can be: of two
// objects that do not go together the older one is used as if the other were
// not there.
package config

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
)

// Objects are all objects at one time, in any order. Check only reads them.
type Objects struct {
	Pools             []*v1beta1.IPAddressPool
	L2Advertisements  []*v1beta1.L2Advertisement
	BGPAdvertisements []*v1beta1.BGPAdvertisement
	BGPPeers          []*v1beta1.BGPPeer
	Communities       []*v1beta1.Community
	BFDProfiles       []*v1beta1.BFDProfile
	// Nodes are the labels of each node by its name. What two objects cannot
	// both have of one node is fine on two.
	Nodes map[string]labels.Set
	// Secrets are those of the namespace by name. Without SecretsKnown,
	// passwordSecret is not looked up.
	Secrets      map[string]*corev1.Secret
	SecretsKnown bool
}

// Ref names an object.
type Ref struct{ Kind, Namespace, Name string }

// Result says what is used.
type Result struct {
	// Conditions has the condition Valid of every object, without a time.
	Conditions map[Ref]metav1.Condition
	// Unused are objects that are not used at all. Whoever used an earlier
	// state of one goes on with that.
	Unused map[Ref]bool
	// Advertised are the names of the pools that an advertisement is used for,
	// sorted. Those that are left out are named in its condition.
	Advertised map[Ref][]string
	// Communities are the values of the names that BGPAdvertisements may use.
	Communities map[string]string
}

// Reasons of the condition Valid.
const (
	ReasonValid          = "Valid"
	ReasonWrongNamespace = "WrongNamespace" // the object lies where nobody looks
	ReasonInvalid        = "Invalid"        // a value makes no sense
	ReasonOverlap        = "Overlap"        // addresses are in a pool already
	ReasonConflict       = "Conflict"       // an older object says something else
	ReasonNotFound       = "NotFound"       // a name is that of no object
	ReasonUnsupported    = "Unsupported"    // a field of MetalLB that Fairlead has no counterpart of
)

// problem is one thing that is wrong with an object.
type problem struct{ reason, message string }

// checker collects what is wrong.
type checker struct {
	Objects         // of one namespace, oldest first
	peers    []peer // those that are used so far
	result   Result
	problems map[Ref][]problem
}

// Check reads all objects. Those of other namespaces than Fairlead's own are
// not used.
func Check(objects Objects, namespace string) Result {
	c := &checker{
		Objects:  objects,
		result:   Result{map[Ref]metav1.Condition{}, map[Ref]bool{}, map[Ref][]string{}, map[string]string{}},
		problems: map[Ref][]problem{},
	}
	c.Pools = inNamespace(c, c.Pools, namespace)
	c.L2Advertisements = inNamespace(c, c.L2Advertisements, namespace)
	c.BGPAdvertisements = inNamespace(c, c.BGPAdvertisements, namespace)
	c.BGPPeers = inNamespace(c, c.BGPPeers, namespace)
	c.Communities = inNamespace(c, c.Communities, namespace)
	c.BFDProfiles = inNamespace(c, c.BFDProfiles, namespace)

	pools := c.checkPools()
	c.checkProfiles()
	c.checkPeers()
	c.checkCommunities()
	c.checkL2(pools)
	c.checkBGP(pools)

	generations(c, objects.Pools)
	generations(c, objects.L2Advertisements)
	generations(c, objects.BGPAdvertisements)
	generations(c, objects.BGPPeers)
	generations(c, objects.Communities)
	generations(c, objects.BFDProfiles)
	return c.result
}

// inNamespace returns the objects of the namespace, oldest first, and reports the others.
func inNamespace[T metav1.Object](c *checker, all []T, namespace string) []T {
	var own []T
	for _, o := range all {
		if o.GetNamespace() == namespace {
			own = append(own, o)
			continue
		}
		c.report(o, ReasonWrongNamespace, "metadata.namespace: %q: not used: Fairlead reads objects in %q alone", o.GetNamespace(), namespace)
		c.result.Unused[refOf(o)] = true
	}
	slices.SortFunc(own, older)
	return own
}

// older orders objects by age, and by name where that is equal.
func older[T metav1.Object](a, b T) int {
	return cmp.Or(a.GetCreationTimestamp().Compare(b.GetCreationTimestamp().Time), strings.Compare(a.GetName(), b.GetName()))
}

// refOf knows the kind by the type: objects from a cache do not say it.
func refOf(o metav1.Object) Ref {
	kind := reflect.TypeOf(o).Elem().Name()
	return Ref{kind, o.GetNamespace(), o.GetName()}
}

func (c *checker) report(o metav1.Object, reason, format string, args ...any) {
	ref := refOf(o)
	c.problems[ref] = append(c.problems[ref], problem{reason, fmt.Sprintf(format, args...)})
}

// generations makes the conditions.
func generations[T metav1.Object](c *checker, all []T) {
	for _, o := range all {
		condition := metav1.Condition{
			Type: v1beta1.ConditionValid, Status: metav1.ConditionTrue, Reason: ReasonValid,
			Message: "used as it stands", ObservedGeneration: o.GetGeneration(),
		}
		if problems := c.problems[refOf(o)]; len(problems) > 0 {
			condition.Status, condition.Reason, condition.Message = metav1.ConditionFalse, problems[0].reason, joined(problems)
		}
		c.result.Conditions[refOf(o)] = condition
	}
}

// maxMessage is what the schema of conditions lets a message have in bytes,
// with room for the last words.
const maxMessage = 32768 - 100

func joined(problems []problem) string {
	var b strings.Builder
	for i, p := range problems {
		if i > 0 {
			b.WriteString("; ")
		}
		if b.Len()+len(p.message) > maxMessage {
			fmt.Fprintf(&b, "and %d more problems", len(problems)-i)
			break
		}
		b.WriteString(p.message)
	}
	return b.String()
}
