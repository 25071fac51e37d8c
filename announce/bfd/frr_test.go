// SPDX-License-Identifier: Apache-2.0

package bfd

import (
	"fmt"
	"testing"

	"github.com/fairlead/fairlead/perf/lab"
	"github.com/fairlead/fairlead/perf/lab/frr"
)

// frrPeer is what FRR says of a session, in "show bfd peers json" and, the last
// three, in "show bfd peers counters json".
type frrPeer struct {
	Peer             string
	Status           string
	ID               uint32
	RemoteID         uint32 `json:"remote-id"`
	Diagnostic       string
	RemoteDiagnostic string `json:"remote-diagnostic"`
	RemoteReceive    int    `json:"remote-receive-interval"` // ms
	RemoteTransmit   int    `json:"remote-transmit-interval"`
	RemoteMultiplier int    `json:"remote-detect-multiplier"`
	PacketsIn        int    `json:"control-packet-input"`
	Ups              int    `json:"session-up"`
	Downs            int    `json:"session-down"`
}

func frrPeers(t *testing.T, r *frr.Router, what string) map[string]frrPeer {
	t.Helper()
	var list []frrPeer
	if err := r.JSON(t.Context(), "show bfd "+what+" json", &list); err != nil {
		t.Fatal(err)
	}
	peers := map[string]frrPeer{}
	for _, p := range list {
		peers[p.Peer] = p
	}
	return peers
}

// Sessions with FRR come up and stay up, in each kind; both ends agree on
// timers, also on later ones; each sees the other one's end, and its return.
func TestFRR(t *testing.T) {
	lab.RequireRoot(t, frr.Tools...)
	l := lab.ForTest(t, lab.Options{Nodes: 1})
	node4, node6 := l.Nodes[0].Addrs[0], l.Nodes[0].Addrs[1]
	for _, tt := range []struct {
		name  string
		ns    *lab.Namespace
		peers string // of FRR
		paths []Path
	}{
		{"single hop", l.Router,
			fmt.Sprintf(" peer %s local-address %s interface br0\n  profile fast\n peer %s local-address %s interface br0\n  profile fast\n",
				node4, lab.RouterAddr4, node6, lab.RouterAddr6),
			[]Path{{Addr: lab.RouterAddr4, Source: node4, Interface: lab.Uplink}, {Addr: lab.RouterAddr6}}},
		{"multihop", l.Client,
			fmt.Sprintf(" peer %s multihop local-address %s\n  profile fast\n peer %s multihop local-address %s\n  profile fast\n",
				node4, lab.ClientAddr4, node6, lab.ClientAddr6),
			[]Path{{Addr: lab.ClientAddr4, Multihop: true}, {Addr: lab.ClientAddr6, Multihop: true}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			config := "bfd\n profile fast\n  detect-multiplier 4\n  receive-interval 60\n  transmit-interval 50\n" + tt.peers
			r, err := frr.Start(t.Context(), l, tt.ns, config)
			if err != nil {
				t.Fatal(err)
			}
			a := newSide(t, l.Nodes[0].Namespace)
			of := func(p Profile) (peers []Peer) {
				for _, path := range tt.paths {
					peers = append(peers, Peer{path, p})
				}
				return peers
			}
			a.sync(t, of(Profile{Transmit: 40 * ms, Receive: 100 * ms, Multiplier: 5, Passive: true})...)
			eachIs := func(what string, done func(SessionReport) bool) {
				t.Helper()
				if err := lab.Poll(t.Context(), patience, func() bool { return each(a.Report().Sessions, done) }); err != nil {
					t.Fatalf("%s: %+v", what, a.Report())
				}
			}
			awaitFRR := func(what, show string, done func(frrPeer) bool) {
				t.Helper()
				var peers map[string]frrPeer
				if err := lab.Poll(t.Context(), patience, func() bool {
					peers = frrPeers(t, r, show)
					return done(peers[node4.String()]) && done(peers[node6.String()])
				}); err != nil {
					t.Fatalf("%s: FRR has %+v", what, peers)
				}
			}
			eachIs("up, with FRR's timers", func(r SessionReport) bool {
				return r.State == Up && r.Interval == 60*ms && r.Detection == 4*100*ms
			})
			awaitFRR("up, with our timers", "peers", func(p frrPeer) bool {
				return p.Status == "up" && p.RemoteTransmit == 40 && p.RemoteReceive == 100 && p.RemoteMultiplier == 5
			})

			a.sync(t, of(Profile{Transmit: 70 * ms, Receive: 30 * ms, Multiplier: 6})...)
			eachIs("later timers", func(r SessionReport) bool { return r.Interval == 70*ms && r.Detection == 4*50*ms })
			awaitFRR("later timers", "peers", func(p frrPeer) bool {
				return p.RemoteTransmit == 70 && p.RemoteReceive == 30 && p.RemoteMultiplier == 6
			})
			awaitFRR("no flaps", "peers counters", func(p frrPeer) bool { return p.PacketsIn > 60 && p.Ups == 1 && p.Downs == 0 })
			eachIs("no flaps", func(r SessionReport) bool { return r.State == Up && r.Downs == 0 && r.SendErrors == 0 })

			if err := r.Kill(); err != nil {
				t.Fatal(err)
			}
			eachIs("FRR is gone", func(r SessionReport) bool { return r.State == Down && r.Diag == DiagExpired && r.Downs == 1 })
			if err := r.Run(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := r.Configure(t.Context(), config); err != nil {
				t.Fatal(err)
			}
			eachIs("FRR is back", is(Up))
			a.Close()
			awaitFRR("told of the end", "peers", func(p frrPeer) bool {
				return p.Status == "down" && p.Diagnostic == "neighbor signaled session down"
			})
			if dropped := a.Report().Dropped; dropped[DropShort]+dropped[DropLength]+dropped[DropTTL]+dropped[DropDiscriminator] > 0 {
				t.Errorf("dropped %v", dropped)
			}
		})
	}
}

// each says whether there are sessions and all are so.
func each(list []SessionReport, so func(SessionReport) bool) bool {
	for _, r := range list {
		if !so(r) {
			return false
		}
	}
	return len(list) > 0
}
