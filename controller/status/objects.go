// SPDX-License-Identifier: Apache-2.0

package status

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
	"github.com/fairlead/fairlead/controller/config"
	"github.com/fairlead/fairlead/controller/watch/cluster"
)

// writeObjects brings the condition Valid of all objects of our own kinds up to
// date, and the counts of pools.
func (w *Writer) writeObjects(ctx context.Context, s *cluster.Snapshot) error {
	if w.checked != s.Configured {
		w.validity, w.checked = config.Check(s.Config, w.Namespace), s.Configured
	}
	var errs []error
	for _, old := range listObjects(s.Config) {
		o := old.DeepCopyObject().(client.Object)
		kind, status := statusOf(o)
		condition, ok := w.validity.Conditions[config.Ref{Kind: kind, Namespace: o.GetNamespace(), Name: o.GetName()}]
		if ok {
			meta.SetStatusCondition(&status.Conditions, condition)
		}
		if pool, ok := o.(*v1beta1.IPAddressPool); ok {
			w.count(pool)
		}
		if reflect.DeepEqual(old, o) {
			continue
		}
		patch := client.MergeFromWithOptions(old, client.MergeFromWithOptimisticLock{})
		if err := w.Client.Status().Patch(ctx, o, patch); err != nil && !refused(err) {
			errs = append(errs, fmt.Errorf("%s %s: write status: %w", kind, old.GetName(), err))
		}
	}
	return errors.Join(errs...)
}

func listObjects(c config.Objects) []client.Object {
	var all []client.Object
	for _, o := range c.Pools {
		all = append(all, o)
	}
	for _, o := range c.L2Advertisements {
		all = append(all, o)
	}
	for _, o := range c.BGPAdvertisements {
		all = append(all, o)
	}
	for _, o := range c.BGPPeers {
		all = append(all, o)
	}
	for _, o := range c.Communities {
		all = append(all, o)
	}
	for _, o := range c.BFDProfiles {
		all = append(all, o)
	}
	return all
}

// statusOf is the kind of an object, and where its conditions are.
func statusOf(o client.Object) (kind string, status *v1beta1.Status) {
	switch o := o.(type) {
	case *v1beta1.IPAddressPool:
		return "IPAddressPool", &o.Status.Status
	case *v1beta1.L2Advertisement:
		return "L2Advertisement", &o.Status
	case *v1beta1.BGPAdvertisement:
		return "BGPAdvertisement", &o.Status
	case *v1beta1.BGPPeer:
		return "BGPPeer", &o.Status
	case *v1beta1.Community:
		return "Community", &o.Status
	case *v1beta1.BFDProfile:
		return "BFDProfile", &o.Status
	}
	panic(fmt.Sprintf("status of %T", o))
}

// count fills in what the last allocation counted.
func (w *Writer) count(o *v1beta1.IPAddressPool) {
	c := w.result.Counts[o.Name]
	o.Status.AssignedIPv4, o.Status.AvailableIPv4 = c.AssignedIPv4, c.AvailableIPv4
	o.Status.AssignedIPv6, o.Status.AvailableIPv6 = c.AssignedIPv6, c.AvailableIPv6
}
