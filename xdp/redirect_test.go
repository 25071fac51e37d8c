// SPDX-License-Identifier: Apache-2.0

package xdp

import (
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/dataplane"
	"github.com/fairlead/fairlead/lb/forward"
	"github.com/fairlead/fairlead/lb/forward/forwardtest"
	"github.com/fairlead/fairlead/lb/packet"
	"github.com/fairlead/fairlead/lb/packet/packettest"
	"github.com/fairlead/fairlead/perf/lab"
)

// redirector is the program in front of the userspace datapath, without a
// socket: what it would redirect it drops.
type redirector struct {
	*kernel
	program *ebpf.Program
}

func newRedirector(t *testing.T, services ...lb.Service) *redirector {
	t.Helper()
	onOneCPU(t)
	p, err := loadForVectors(loadBpf, forwardtest.SettingsOf(forwardtest.Nodes()[0]), true, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	plane, err := dataplane.New(p.Maps(), dataplane.Options{Now: func() uint32 { return 0 }, Adopt: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := plane.Sync(forwardtest.TableOf("a", services...)); err != nil {
		t.Fatal(err)
	}
	k := &kernel{t: t, programs: p}
	k.seen = k.counters()
	return &redirector{kernel: k, program: p.coll.Programs[bpfProgLbXdpSocket]}
}

// expect gives the frame to the program.
func (r *redirector) expect(what string, f packettest.Frame, want forward.Reason) {
	r.t.Helper()
	const xdpDrop, xdpPass = 1, 2
	verdict, err := r.program.Run(&ebpf.RunOptions{Data: f.Bytes()})
	if err != nil {
		r.t.Fatalf("%s: %v", what, err)
	}
	wantVerdict := uint32(xdpPass)
	if want.Verdict() == forward.Drop {
		wantVerdict = xdpDrop
	}
	if got := r.counted(); got != want || verdict != wantVerdict {
		r.t.Errorf("%s: %s with %d, want %s with %d", what, got, verdict, want, wantVerdict)
	}
}

// The redirect program itself lets pass what the whole datapath would let pass.
func TestRedirect(t *testing.T) {
	lab.RequireRoot(t)
	const client, web, dns = "198.51.100.7:40000", "192.0.2.1:80", "192.0.2.1:53"
	r := newRedirector(t, forwardtest.Service(lb.TCP, web, "10.1.1.1:8080"),
		lb.Service{Key: forwardtest.Service(lb.UDP, dns).Key, Left: true})
	query := packettest.UDP(client, dns, string(make([]byte, 100)))
	toWeb := packettest.UDP(client, web, string(make([]byte, 100)))
	router := func(about packettest.Frame) packettest.Frame {
		return packettest.ICMPError("203.0.113.9", about, packet.ICMPUnreachable, 1, 8)
	}
	r.expect("ours", packettest.TCP(client, web, packet.SYN), forward.NoAgent)
	r.expect("no service", toWeb, forward.NoAgent)
	r.expect("ping", packettest.Ping("198.51.100.7", "192.0.2.1"), forward.NoAgent)
	r.expect("no VIP", packettest.TCP(client, "192.0.2.2:80", packet.SYN), forward.NotVIP)
	r.expect("left", query, forward.Left)
	r.expect("error about ours", router(packettest.TCP(web, client, packet.ACK)), forward.NoAgent)
	r.expect("error about what is left", router(packettest.UDP(dns, client, "")), forward.Left)
	r.expect("error about a tunnel", router(packettest.UDP("10.0.0.1:7471", "10.0.0.2:7471", "")), forward.NoAgent)
	for i, piece := range query.Fragments(5, 40) {
		r.expect([]string{"first fragment", "later fragment"}[i], piece, forward.Left)
	}
	r.expect("later fragment of ours", toWeb.Fragments(6, 40)[1], forward.NoAgent)

	t.Cleanup(func() {
		if err := lab.ForgetTracked(); err != nil {
			t.Error(err)
		}
	})
	known := forwardtest.Connection{Client: netip.MustParseAddrPort(client), Service: forwardtest.Service(lb.TCP, web).Key}
	if err := r.SetConntrack([]forwardtest.Connection{known}); err != nil {
		t.Fatal(err)
	}
	segment := packettest.TCP(client, web, packet.ACK)
	segment.Payload = make([]byte, 100)
	r.expect("known connection", segment, forward.Conntracked)
	r.expect("error about a known connection", router(packettest.TCP(web, client, packet.ACK)), forward.Conntracked)
	r.expect("another connection", packettest.TCP("198.51.100.7:40001", web, packet.ACK), forward.NoAgent)
	for i, piece := range segment.Fragments(7, 40) {
		r.expect([]string{"first fragment", "later fragment"}[i]+" of a known connection", piece, forward.Conntracked)
	}
}
