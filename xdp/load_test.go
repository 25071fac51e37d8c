// SPDX-License-Identifier: Apache-2.0

package xdp

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/fairlead/fairlead/perf/lab"
)

// The verifier accepts every configuration. Constants decide which branches it
// sees, so each one is tried both ways.
func TestVerifier(t *testing.T) {
	lab.RequireRoot(t)
	v4, v6 := netip.MustParseAddr("10.1.0.11"), netip.MustParseAddr("fd01::11")
	for _, v := range []variant{{}, {native: true}, {native: true, veth: true}} {
		for _, addrs := range [][]netip.Addr{{v4}, {v6}, {v4, v6}} {
			for _, keys := range [][][16]byte{make([][16]byte, 1), make([][16]byte, 2)} {
				for _, flag := range []bool{false, csumFlagKnown()} {
					cfg := Config{PinPath: "-", GenevePort: 6180, Addrs: addrs, Keys: keys}
					cfg.setDefaults()
					name := fmt.Sprintf("%+v addrs=%v keys=%d csumFlag=%t", v, addrs, len(keys), flag)
					t.Run(name, func(t *testing.T) { loadAll(t, cfg, v, flag) })
				}
			}
		}
	}
}

func loadAll(t *testing.T, cfg Config, v variant, flag bool) {
	spec, err := loadBpf()
	if err != nil {
		t.Fatal(err)
	}
	cfg.FlowEntries, cfg.TableBytes = 64, 4096
	cfg.sizeMaps(spec)
	for name, value := range cfg.constants(v, 1500, cfg.flowBuckets(), [2]uint64{1, 2}, flag) {
		if err := spec.Variables[name].Set(value); err != nil {
			t.Fatalf("set %s: %v", name, err)
		}
	}
	coll, err := ebpf.NewCollectionWithOptions(spec, ebpf.CollectionOptions{
		Programs: ebpf.ProgramOptions{LogLevel: ebpf.LogLevelStats},
	})
	var verifier *ebpf.VerifierError
	if errors.As(err, &verifier) {
		t.Fatalf("%+v", verifier)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer coll.Close()
	for name, p := range coll.Programs {
		t.Log(name, p.VerifierLog)
	}
}
