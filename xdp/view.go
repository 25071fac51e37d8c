// SPDX-License-Identifier: Apache-2.0

package xdp

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/dataplane"
)

// View looks at the pinned maps of a node from another process than its agent's:
// what is there for packets, and when it changes. For measurements.
type View struct {
	maps    map[string]*ebpf.Map
	records []byte // service_records
}

// OpenView opens the maps under an agent's pin path, which have to be there.
func OpenView(pinPath string) (*View, error) {
	spec, err := loadBpf()
	if err != nil {
		return nil, fmt.Errorf("load spec: %w", err)
	}
	v := &View{maps: map[string]*ebpf.Map{}}
	for name := range spec.Maps {
		if name[0] == '.' {
			continue
		}
		// Not read-only: the kernel maps no memory of such a descriptor.
		opened, err := ebpf.LoadPinnedMap(filepath.Join(pinPath, name), nil)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("map %s: %w", name, err), v.Close())
		}
		v.maps[name] = opened
	}
	records := v.maps[bpfMapServiceRecords]
	v.records, err = unix.Mmap(records.FD(), 0, int(records.MaxEntries()*records.ValueSize()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("map %s into memory: %w", bpfMapServiceRecords, err), v.Close())
	}
	return v, nil
}

// Close lets go of the maps.
func (v *View) Close() error {
	var errs []error
	if v.records != nil {
		errs = append(errs, unix.Munmap(v.records))
		v.records = nil
	}
	for _, bm := range v.maps {
		errs = append(errs, bm.Close())
	}
	return errors.Join(errs...)
}

// ServiceID returns the id that packets of the service port find; ok is false
// when they find none.
func (v *View) ServiceID(key lb.ServiceKey) (id lb.ServiceID, ok bool, err error) {
	k := toServiceKey(key)
	err = v.maps[bpfMapServices].Lookup(&k, &id)
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return 0, false, nil
	}
	return id, err == nil, err
}

// Table is the lookup table that the service's record names at this moment. The
// call costs a read of memory.
func (v *View) Table(id lb.ServiceID) dataplane.TableRef {
	at := v.records[int(id)*serviceRecordLength+serviceRecordTable:]
	return unpackTable(atomic.LoadUint64((*uint64)(unsafe.Pointer(&at[0]))))
}

// Memory is what each map takes in the kernel, in bytes.
func (v *View) Memory() (map[string]uint64, error) { return memoryOf(v.maps) }
