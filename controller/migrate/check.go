// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/fairlead/fairlead/controller/config"
)

// check looks at each namespace of converted objects as the controller will,
// and adds what their condition Valid would say. Nodes are not known: it takes
// objects without selectors for those of one node.
func (c *converter) check() {
	byNamespace := map[string]config.Objects{}
	for _, one := range c.result.Converted {
		namespace := one.Object.GetNamespace()
		all := byNamespace[namespace]
		all.Add(one.Object)
		byNamespace[namespace] = all
	}
	for namespace, all := range byNamespace {
		all.Nodes = map[string]labels.Set{"any": {}}
		result := config.Check(all, namespace)
		for i, one := range c.result.Converted {
			if one.Object.GetNamespace() == namespace {
				c.result.Converted[i].Notes = append(one.Notes, told(one, result)...)
			}
		}
	}
}

func told(one Converted, result config.Result) []Note {
	kind := one.Object.GetObjectKind().GroupVersionKind().Kind
	ref := config.Ref{Kind: kind, Namespace: one.Object.GetNamespace(), Name: one.Object.GetName()}
	condition := result.Conditions[ref]
	if condition.Status == metav1.ConditionTrue {
		return nil
	}
	level := Warning
	if condition.Reason == config.ReasonInvalid {
		level = Error
	}
	return []Note{{level, kind + " " + one.Object.GetName(), condition.Message}}
}
