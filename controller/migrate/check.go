// SPDX-License-Identifier: Apache-2.0

package migrate

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
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
		switch o := one.Object.(type) {
		case *v1beta1.IPAddressPool:
			all.Pools = append(all.Pools, o)
		case *v1beta1.L2Advertisement:
			all.L2Advertisements = append(all.L2Advertisements, o)
		case *v1beta1.BGPAdvertisement:
			all.BGPAdvertisements = append(all.BGPAdvertisements, o)
		case *v1beta1.BGPPeer:
			all.BGPPeers = append(all.BGPPeers, o)
		case *v1beta1.Community:
			all.Communities = append(all.Communities, o)
		case *v1beta1.BFDProfile:
			all.BFDProfiles = append(all.BFDProfiles, o)
		}
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
