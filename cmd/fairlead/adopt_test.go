// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/xdp"
)

// tracked are connections of clients by their ports, by service port.
type tracked map[uint16][]uint16

func (m tracked) each(f func(xdp.Connection)) error {
	for service, ports := range m {
		for _, port := range ports {
			f(xdp.Connection{
				Service: adoptedKey(service), Client: netip.AddrPortFrom(netip.MustParseAddr("198.51.100.7"), port),
			})
		}
	}
	return nil
}

func adoptedKey(port uint16) lb.ServiceKey {
	return lb.ServiceKey{VIP: netip.MustParseAddr("192.0.2.10"), Port: port, Proto: lb.TCP}
}

func adoptedKeys(ports ...uint16) []lb.ServiceKey {
	var keys []lb.ServiceKey
	for _, port := range ports {
		keys = append(keys, adoptedKey(port))
	}
	return keys
}

// Only connections that were there at the first look keep a service adopted.
func TestAdoption(t *testing.T) {
	var a adoption
	now := time.Now()
	look := func(adopted []lb.ServiceKey, known tracked, want ...uint16) {
		t.Helper()
		done, err := a.look(adopted, known.each)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(adoptedKeys(want...), done, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
			t.Errorf("done, -want +got:\n%s", diff)
		}
	}
	all := adoptedKeys(80, 81)
	a.begin(all, now)
	if !a.next.Equal(now.Add(adoptionFirst)) {
		t.Errorf("first look after %s", a.next.Sub(now))
	}
	look(all, tracked{80: {1, 2}, 82: {3}}, 81)
	a.next = now.Add(adoptionEvery)
	a.begin(all[:1], now)
	if !a.next.Equal(now.Add(adoptionEvery)) {
		t.Errorf("a service that is known is looked at after %s", a.next.Sub(now))
	}
	look(all[:1], tracked{80: {2, 4}})
	a.begin(adoptedKeys(80, 83), now)
	if !a.next.Equal(now.Add(adoptionFirst)) {
		t.Errorf("a new service is looked at after %s", a.next.Sub(now))
	}
	look(adoptedKeys(80, 83), tracked{80: {4, 5}, 83: {5}}, 80)

	// One that went and came is a new one.
	a.begin(nil, now)
	a.begin(adoptedKeys(83), now)
	look(adoptedKeys(83), tracked{83: {6}})
	broken := errors.New("interrupted")
	if done, err := a.look(adoptedKeys(83), func(func(xdp.Connection)) error { return broken }); !errors.Is(err, broken) || done != nil {
		t.Errorf("broken dump: done %v, %v", done, err)
	}
	look(adoptedKeys(83), tracked{83: {6}})
	if done, err := a.look(all, func(func(xdp.Connection)) error { return xdp.ErrNoConntrack }); err != nil || len(done) != len(all) {
		t.Errorf("no conntrack: done %v, %v", done, err)
	}
}

func TestAdoptingAgent(t *testing.T) {
	f := newFake()
	f.carry(t)
	client := netip.MustParseAddrPort(explainedClient)
	f.tracked = []xdp.Connection{{Service: adoptedKey(80), Client: client}, {Service: adoptedKey(443), Client: client}}
	a := startAgent(t, f, agentFlags{})
	counted := func(n int) func(statusReport) bool {
		return func(r statusReport) bool {
			return len(r.Services) > 0 && r.Services[0].Adopted != nil && *r.Services[0].Adopted == n
		}
	}
	a.status(t, "one connection counted", counted(1))
	_, stdout, _ := a.command("status")
	const want = `TAKEN OVER FROM KUBE-PROXY  CONNECTIONS THAT IT STILL HAS
default/web:http            1
`
	if !strings.Contains(stdout, want) {
		t.Errorf("no %q in:\n%s", want, stdout)
	}
	text := a.explain(t, "tcp", explainedClient, explainedVIP)
	for step, want := range map[string]string{
		"conntrack": "the service was taken over from kube-proxy, so conntrack is asked: it knows the connection",
		"verdict":   "pass, conntracked: kube-proxy has the connection from the time before the service was taken over, and keeps it",
	} {
		if got := explainedStep(text, step); got != want {
			t.Errorf("%s: %q, want %q", step, got, want)
		}
	}
	text = a.explain(t, "tcp", "198.51.100.7:40001", explainedVIP)
	if got, want := explainedStep(text, "conntrack"), "the service was taken over from kube-proxy, so conntrack is asked: it does not know the connection"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
