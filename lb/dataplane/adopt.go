// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/fairlead/fairlead/lb"
)

// Adopted are the services that were taken over from kube-proxy, sorted, up to
// their EndAdoption.
func (d *Dataplane) Adopted() []lb.ServiceKey {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.SortedFunc(maps.Keys(d.adopted), lb.ServiceKey.Compare)
}

// adopt says whether the service is one that was taken over.
func (d *Dataplane) adopt(s *service, adopted bool) {
	if adopted {
		d.adopted[s.key] = true
	} else {
		delete(d.adopted, s.key)
	}
}

// EndAdoption says that kube-proxy has no connection of these services any
// more: nobody is asked about them from now on. What fails is retried by the
// next Sync.
func (d *Dataplane) EndAdoption(keys []lb.ServiceKey) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var errs []error
	for _, key := range keys {
		s := d.services[key]
		if s == nil || !d.adopted[key] {
			continue
		}
		d.adopt(s, false)
		if s.entry.state != present {
			continue // the Sync that retries it writes that too
		}
		entry := s.entry.value
		entry.Adopted = false
		if err := s.entry.put(entry, func() error { return d.maps.PutService(s.id, entry) }); err != nil {
			d.dirty[key] = true
			errs = append(errs, fmt.Errorf("service %s: %w", key, err))
		}
	}
	return errors.Join(errs...)
}
