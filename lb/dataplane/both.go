// SPDX-License-Identifier: Apache-2.0

package dataplane

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/fairlead/fairlead/lb"
)

// Both copies what source holds into image, which is empty, and returns Maps
// that write to both and read from source: two datapaths on the same tables. A
// write that fails in either is repeated in both, which both take as success.
func Both(source, image Maps) (Maps, error) {
	s, err := source.Load()
	if err != nil {
		return nil, fmt.Errorf("load maps: %w", err)
	}
	if err := s.copy(source, image); err != nil {
		return nil, fmt.Errorf("copy maps: %w", err)
	}
	return &twoMaps{source, image}, nil
}

// copy writes all of the state, which is source's, in the order in which things
// refer to each other. A service whose table is not there gets none.
func (s State) copy(source, m Maps) error {
	var errs []error
	for id, e := range s.Nodes {
		errs = append(errs, m.PutNode(id, e))
	}
	for id, e := range s.Backends {
		errs = append(errs, m.PutBackend(id, e))
	}
	for k, e := range s.Endpoints {
		errs = append(errs, m.PutEndpoint(k.Service, k.Wire, e))
	}
	for k := range s.SourceRanges {
		errs = append(errs, m.PutSourceRange(k.Service, k.Prefix))
	}
	for id, e := range s.Services {
		if t, ok := source.ReadTable(e.Table); ok {
			errs = append(errs, m.WriteTable(e.Table, t))
		}
		errs = append(errs, m.PutService(id, e))
	}
	for a := range s.VIPs {
		errs = append(errs, m.PutVIP(a))
	}
	return errors.Join(errs...)
}

type twoMaps struct{ source, image Maps }

func (m *twoMaps) both(write func(Maps) error) error {
	if err := write(m.source); err != nil {
		return err
	}
	return write(m.image)
}

func (m *twoMaps) Limits() Limits       { return m.source.Limits() }
func (m *twoMaps) Load() (State, error) { return m.source.Load() }

func (m *twoMaps) ReadTable(ref TableRef) (LookupTable, bool) { return m.source.ReadTable(ref) }

func (m *twoMaps) PutNode(id lb.NodeID, e NodeEntry) error {
	return m.both(func(o Maps) error { return o.PutNode(id, e) })
}

func (m *twoMaps) DeleteNode(id lb.NodeID) error {
	return m.both(func(o Maps) error { return o.DeleteNode(id) })
}

func (m *twoMaps) PutBackend(id lb.BackendID, e BackendEntry) error {
	return m.both(func(o Maps) error { return o.PutBackend(id, e) })
}

func (m *twoMaps) DeleteBackend(id lb.BackendID) error {
	return m.both(func(o Maps) error { return o.DeleteBackend(id) })
}

func (m *twoMaps) PutEndpoint(s lb.ServiceID, w lb.WireID, e EndpointEntry) error {
	return m.both(func(o Maps) error { return o.PutEndpoint(s, w, e) })
}

func (m *twoMaps) DeleteEndpoint(s lb.ServiceID, w lb.WireID) error {
	return m.both(func(o Maps) error { return o.DeleteEndpoint(s, w) })
}

func (m *twoMaps) PutSourceRange(s lb.ServiceID, p netip.Prefix) error {
	return m.both(func(o Maps) error { return o.PutSourceRange(s, p) })
}

func (m *twoMaps) DeleteSourceRange(s lb.ServiceID, p netip.Prefix) error {
	return m.both(func(o Maps) error { return o.DeleteSourceRange(s, p) })
}

func (m *twoMaps) WriteTable(ref TableRef, t LookupTable) error {
	return m.both(func(o Maps) error { return o.WriteTable(ref, t) })
}

func (m *twoMaps) PutService(id lb.ServiceID, e ServiceEntry) error {
	return m.both(func(o Maps) error { return o.PutService(id, e) })
}

func (m *twoMaps) DeleteService(id lb.ServiceID, k lb.ServiceKey) error {
	return m.both(func(o Maps) error { return o.DeleteService(id, k) })
}

func (m *twoMaps) PutVIP(a netip.Addr) error {
	return m.both(func(o Maps) error { return o.PutVIP(a) })
}

func (m *twoMaps) DeleteVIP(a netip.Addr) error {
	return m.both(func(o Maps) error { return o.DeleteVIP(a) })
}
