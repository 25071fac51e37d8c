// SPDX-License-Identifier: Apache-2.0

package status

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/controller/api/v1beta1"
	"github.com/fairlead/fairlead/controller/ipam"
	"github.com/fairlead/fairlead/controller/watch/cluster"
)

// writePools brings counts and conditions of pools up to date.
func (w *Writer) writePools(ctx context.Context, s *cluster.Snapshot) error {
	var errs []error
	for _, old := range s.Pools {
		o := old.DeepCopy()
		counts := w.result.Counts[o.Name]
		o.Status.AssignedIPv4, o.Status.AvailableIPv4 = counts.AssignedIPv4, counts.AvailableIPv4
		o.Status.AssignedIPv6, o.Status.AvailableIPv6 = counts.AssignedIPv6, counts.AvailableIPv6
		c := metav1.Condition{Type: v1beta1.ConditionValid, Status: metav1.ConditionTrue, Reason: "Valid", ObservedGeneration: o.Generation}
		if _, err := ipam.NewPool(o); err != nil {
			c.Status, c.Reason, c.Message = metav1.ConditionFalse, "Invalid", err.Error()
		}
		meta.SetStatusCondition(&o.Status.Conditions, c)
		if reflect.DeepEqual(old.Status, o.Status) {
			continue
		}
		patch := client.MergeFromWithOptions(old, client.MergeFromWithOptimisticLock{})
		if err := w.Client.Status().Patch(ctx, o, patch); err != nil && !refused(err) {
			errs = append(errs, fmt.Errorf("pool %s: write status: %w", old.Name, err))
		}
	}
	return errors.Join(errs...)
}
