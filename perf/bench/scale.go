// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/dataplane"
	"github.com/fairlead/fairlead/lb/maglev"
	"github.com/fairlead/fairlead/xdp"
)

// Scale is what many services take.
type Scale struct {
	Services           int               `json:"services"`
	BackendsPerService int               `json:"backendsPerService"`
	MapBytes           map[string]uint64 `json:"mapBytes"`
	TotalBytes         uint64            `json:"totalBytes"`
	FromNothingMS      float64           `json:"fromNothingMs"`
	// OneChange is from the new lb.Table to the last map write; making that
	// table from the list of services is BuildTable.
	OneChangeMS   float64 `json:"oneChangeMs"`
	OneAmongTenMS float64 `json:"oneChangeAmong10ServicesMs"`
	BuildTableMS  float64 `json:"buildTableMs"`
}

const (
	scaleServices = 10_000
	scaleBackends = 10
	scaleNodes    = 100
	changes       = 21
)

func measureScale() (*Scale, error) {
	s := &Scale{Services: scaleServices, BackendsPerService: scaleBackends}
	few := &Scale{}
	if err := few.program(10); err != nil {
		return nil, err
	}
	s.OneAmongTenMS = few.OneChangeMS
	if err := s.program(scaleServices); err != nil {
		return nil, err
	}
	for _, n := range s.MapBytes {
		s.TotalBytes += n
	}
	return s, nil
}

// program writes n services into fresh maps, and then changes of one of them.
func (s *Scale) program(n int) error {
	p, err := xdp.LoadPrograms(xdp.Config{
		Addrs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}, GenevePort: genevePort, Keys: [][16]byte{wireKey},
		Backends: 1 << 17, TableBytes: 128 << 20,
	}, uplink, [2]uint64{1, 2})
	if err != nil {
		return err
	}
	defer p.Close()
	plane, err := dataplane.New(p.Maps(), dataplane.Options{Now: xdp.NowTick, PastTicks: xdp.Ticks(time.Hour)})
	if err != nil {
		return err
	}
	services := manyServices(n)
	if _, s.FromNothingMS, err = timeSync(plane, services); err != nil {
		return err
	}
	var build, each []float64
	for i := range changes {
		b := services[n/2].Backends
		b[i%scaleBackends].Draining = !b[i%scaleBackends].Draining
		made, synced, err := timeSync(plane, services)
		if err != nil {
			return err
		}
		build, each = append(build, made), append(each, synced)
	}
	s.BuildTableMS, s.OneChangeMS = median(build), median(each)
	s.MapBytes, err = p.Maps().Memory()
	return err
}

func manyServices(n int) []lb.Service {
	vip, pod := netip.MustParseAddr("100.64.0.1"), netip.MustParseAddr("10.128.0.1")
	services := make([]lb.Service, n)
	for i := range services {
		services[i] = lb.Service{Key: lb.ServiceKey{VIP: vip, Port: servicePort, Proto: lb.TCP}, TableSize: maglev.DefaultSize}
		for k := range scaleBackends {
			services[i].Backends = append(services[i].Backends, lb.Backend{
				Addr: netip.AddrPortFrom(pod, podPort), Node: nodeName((i + k) % scaleNodes), Weight: 1,
			})
			pod = pod.Next()
		}
		vip = vip.Next()
	}
	return services
}

func nodeName(i int) string { return fmt.Sprintf("node%d", i) }

// timeSync is the time that making the table takes, and that bringing the maps
// to it takes, in ms.
func timeSync(plane *dataplane.Dataplane, services []lb.Service) (build, sync float64, err error) {
	var nodes []lb.Node
	addr := netip.MustParseAddr("10.0.0.1")
	for i := range scaleNodes {
		nodes = append(nodes, lb.Node{Name: nodeName(i), Addrs: []netip.Addr{addr}})
		addr = addr.Next()
	}
	start := time.Now()
	table, err := lb.NewTable(nodeName(0), nodes, services)
	if err != nil {
		return 0, 0, err
	}
	built := time.Now()
	if err := plane.Sync(table); err != nil {
		return 0, 0, err
	}
	return ms(built.Sub(start)), ms(time.Since(built)), nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func (s *Scale) print(out io.Writer) {
	const mib = 1 << 20
	fmt.Fprintf(out, "\n%d services with %d backends each: maps %.1f MiB, programmed from nothing in %.0f ms, one change in %.2f ms (%.2f ms among 10 services) after a new table was made of the list in %.0f ms\n",
		s.Services, s.BackendsPerService, float64(s.TotalBytes)/mib, s.FromNothingMS, s.OneChangeMS, s.OneAmongTenMS, s.BuildTableMS)
	names := make([]string, 0, len(s.MapBytes))
	for name := range s.MapBytes {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return int(s.MapBytes[b]>>10) - int(s.MapBytes[a]>>10) })
	for _, name := range names[:6] {
		fmt.Fprintf(out, "  %-16s %7.1f MiB\n", name, float64(s.MapBytes[name])/mib)
	}
}
