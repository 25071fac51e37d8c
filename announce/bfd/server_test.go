// SPDX-License-Identifier: Apache-2.0

package bfd

import (
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/perf/lab"
)

// patience is for things that take far less on an idle machine.
const patience = 20 * time.Second

// side is a Server in a namespace, and what it told.
type side struct {
	*Server
	mu      sync.Mutex
	changes []Change
}

func newSide(t *testing.T, n *lab.Namespace) *side {
	t.Helper()
	s := &side{}
	s.Server = NewServer(Options{Log: slog.New(slog.DiscardHandler), Within: n.Do, Changed: func(c Change) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.changes = append(s.changes, c)
	}})
	t.Cleanup(s.Close)
	return s
}

func (s *side) sync(t *testing.T, peers ...Peer) {
	t.Helper()
	if err := s.Sync(peers); err != nil {
		t.Fatal(err)
	}
}

// only is the report of the one session.
func (s *side) only(t *testing.T) SessionReport {
	t.Helper()
	r := s.Report()
	if len(r.Sessions) != 1 {
		t.Fatalf("%d sessions, want 1", len(r.Sessions))
	}
	return r.Sessions[0]
}

func (s *side) await(t *testing.T, what string, done func(SessionReport) bool) {
	t.Helper()
	if err := lab.Poll(t.Context(), patience, func() bool { return done(s.only(t)) }); err != nil {
		t.Fatalf("%s: %v: %+v, dropped %v", what, err, s.only(t), s.Report().Dropped)
	}
}

func is(state State) func(SessionReport) bool {
	return func(r SessionReport) bool { return r.State == state }
}

// told waits for what changes said, in order.
func (s *side) told(t *testing.T, want ...State) {
	t.Helper()
	var got []State
	lab.Poll(t.Context(), patience, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		got = got[:0]
		for _, c := range s.changes {
			got = append(got, c.State)
		}
		return len(got) >= len(want)
	})
	for i := range want {
		if i >= len(got) || got[i] != want[i] {
			t.Fatalf("told %v, want %v first", got, want)
		}
	}
}

func nft(t *testing.T, n *lab.Namespace, command string) {
	t.Helper()
	if out, err := n.Output(t.Context(), "nft", strings.Fields(command)...); err != nil {
		t.Fatalf("nft %s: %v: %s", command, err, out)
	}
}

// deaf has a namespace hear no BFD until the function is called.
func deaf(t *testing.T, n *lab.Namespace) (hear func()) {
	t.Helper()
	nft(t, n, "add table inet bfdtest")
	nft(t, n, "add chain inet bfdtest in { type filter hook input priority 0 ; }")
	nft(t, n, "add rule inet bfdtest in udp dport { 3784, 4784 } drop")
	return func() { nft(t, n, "delete table inet bfdtest") }
}

// linkLocal is the address that a namespace has on its uplink by itself.
func linkLocal(t *testing.T, n *lab.Namespace) netip.Addr {
	t.Helper()
	var found netip.Addr
	err := n.Do(func() error {
		i, err := net.InterfaceByName(lab.Uplink)
		if err != nil {
			return err
		}
		addrs, err := i.Addrs()
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is6() && p.Addr().IsLinkLocalUnicast() {
				found = p.Addr()
			}
		}
		return err
	})
	if err != nil || !found.IsValid() {
		t.Fatalf("no link-local address: %v", err)
	}
	return found
}

// A session comes up, sees that it is not heard, says so, and comes back.
func TestServers(t *testing.T) {
	l := lab.ForTest(t, lab.Options{Nodes: 2})
	near, far := l.Nodes[0].Namespace, l.Nodes[1].Namespace
	slow := Profile{Transmit: 60 * ms, Receive: 40 * ms, Multiplier: 5}
	for _, tt := range []struct {
		name  string
		other *lab.Namespace
		a, b  Path // what each side watches
	}{
		{"v4", far, Path{Addr: l.Nodes[1].Addrs[0]}, Path{Addr: l.Nodes[0].Addrs[0]}},
		{"v6", far, Path{Addr: l.Nodes[1].Addrs[1]}, Path{Addr: l.Nodes[0].Addrs[1]}},
		{"v4 by source and interface", far,
			Path{Addr: l.Nodes[1].Addrs[0], Source: l.Nodes[0].Addrs[0], Interface: lab.Uplink},
			Path{Addr: l.Nodes[0].Addrs[0], Interface: lab.Uplink}},
		{"link-local", far,
			Path{Addr: linkLocal(t, far).WithZone(lab.Uplink)},
			Path{Addr: linkLocal(t, near), Source: linkLocal(t, far), Interface: lab.Uplink}},
		{"v4 multihop", l.Client, Path{Addr: lab.ClientAddr4, Multihop: true}, Path{Addr: l.Nodes[0].Addrs[0], Multihop: true}},
		{"v6 multihop", l.Client, Path{Addr: lab.ClientAddr6, Multihop: true},
			Path{Addr: l.Nodes[0].Addrs[1], Source: lab.ClientAddr6, Multihop: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, b := newSide(t, near), newSide(t, tt.other)
			passive := slow
			passive.Passive = true
			a.sync(t, Peer{tt.a, slow})
			b.sync(t, Peer{tt.b, passive})
			a.await(t, "up", is(Up))
			b.await(t, "up", is(Up))
			a.await(t, "agreed", func(r SessionReport) bool { return r.Interval == 60*ms && r.Detection == 5*60*ms })

			hear := deaf(t, near)
			a.await(t, "sees silence", is(Down))
			b.await(t, "is told", func(r SessionReport) bool { return r.Downs == 1 && r.Diag == DiagSignaled && r.PeerDiag == DiagExpired })
			hear()
			a.await(t, "back", func(r SessionReport) bool { return r.State == Up && r.Downs == 1 })
			b.await(t, "back", is(Up))
			a.told(t, Up, Down)

			b.Close()
			a.await(t, "is told of the end", func(r SessionReport) bool { return r.State != Up && r.Diag == DiagSignaled })
			if r := a.only(t); r.SendErrors != 0 || r.Sent == 0 || r.Received == 0 || r.Err != nil {
				t.Errorf("%+v", r)
			}
		})
	}
}

// Other sets of peers, and other profiles, do not disturb a session.
func TestSync(t *testing.T) {
	l := lab.ForTest(t, lab.Options{Nodes: 3})
	a, b := newSide(t, l.Nodes[0].Namespace), newSide(t, l.Nodes[1].Namespace)
	stays := Path{Addr: l.Nodes[1].Addrs[0]}
	a.sync(t, Peer{stays, fast}, Peer{Path{Addr: l.Nodes[2].Addrs[1]}, fast})
	b.sync(t, Peer{Path{Addr: l.Nodes[0].Addrs[0]}, Profile{Transmit: 20 * ms, Receive: 20 * ms, Multiplier: 10}})
	b.await(t, "up", is(Up))

	err := a.Sync([]Peer{
		{stays, Profile{Transmit: 30 * ms, Receive: 200 * ms, Multiplier: 20}},
		{Path{Addr: netip.MustParseAddr("fe80::1")}, fast},
		{stays, fast},
		{Path{Addr: l.Nodes[2].Addrs[0]}, Profile{Receive: time.Millisecond}},
	})
	for _, want := range []string{"peers[1].addr: fe80::1: is link-local", "peers[2].addr: " + stays.Addr.String() + ": is there twice", "peers[3].profile.receive: 1ms"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: want %s", err, want)
		}
	}
	b.await(t, "the other profile", func(r SessionReport) bool { return r.Interval == 200*ms && r.Detection == 20*30*ms })
	if r := a.only(t); r.State != Up || r.Downs != 0 {
		t.Errorf("%+v", r)
	}
	if r := b.only(t); r.Downs != 0 {
		t.Errorf("%+v", r)
	}

	a.sync(t)
	b.await(t, "told of the end", func(r SessionReport) bool { return r.State == Down && r.PeerState == AdminDown })
	conn, err := l.Nodes[0].ListenPacket(t.Context(), "udp4", ":3784")
	if err != nil {
		t.Fatalf("the socket is held without peers: %v", err)
	}
	defer conn.Close()
	if err := a.Sync([]Peer{{stays, fast}}); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("%v, want the port to be in use", err)
	}
	a.Close()
	a.Close()
	if err := a.Sync(nil); err == nil {
		t.Error("synced after the end")
	}
}

// A node that had no time to read packets does not blame the peer for it.
func TestLateReader(t *testing.T) {
	l := lab.ForTest(t, lab.Options{Nodes: 2})
	a, b := newSide(t, l.Nodes[0].Namespace), newSide(t, l.Nodes[1].Namespace)
	a.sync(t, Peer{Path{Addr: l.Nodes[1].Addrs[0]}, Profile{Transmit: 20 * ms, Receive: 20 * ms, Multiplier: 255}})
	b.sync(t, Peer{Path{Addr: l.Nodes[0].Addrs[0]}, Profile{Transmit: 20 * ms, Receive: 20 * ms}})
	a.await(t, "detection in 60ms", func(r SessionReport) bool { return r.State == Up && r.Detection == 60*ms })
	b.await(t, "up", is(Up))

	a.Server.mu.Lock() // nothing is read but what one goroutine has in hand
	defer a.Server.mu.Unlock()
	var one *running
	for _, one = range a.sessions {
	}
	late, _ := one.session.expiry()
	before := b.only(t).Sent
	if err := lab.Poll(t.Context(), patience, func() bool { return time.Now().After(late) && b.only(t).Sent > before+5 }); err != nil {
		t.Fatal(err)
	}
	received := one.report.Received
	a.ticked(one)
	if one.session.State() != Up || one.report.Received < received+5 {
		t.Errorf("%s after %d packets that waited", one.session.State(), one.report.Received-received)
	}
}

// An interface may come later, go, and be another one of the same name.
func TestInterfaceComes(t *testing.T) {
	l := lab.ForTest(t, lab.Options{Nodes: 1})
	n := l.Nodes[0].Namespace
	a := newSide(t, n)
	ip := func(commands ...string) {
		t.Helper()
		for _, args := range commands {
			if out, err := n.Output(t.Context(), "ip", strings.Fields(args)...); err != nil {
				t.Fatalf("ip %s: %v: %s", args, err, out)
			}
		}
	}
	a.sync(t, Peer{Path{Addr: netip.MustParseAddr("192.0.2.2"), Interface: "later"}, fast})
	a.await(t, "error", func(r SessionReport) bool { return errors.Is(r.Err, unix.ENODEV) && r.SendErrors > 0 })
	for range 2 {
		ip("link add later type veth peer name other", "link set other up", "link set later up", "addr add 192.0.2.1/24 dev later")
		sent := a.only(t).Sent
		a.await(t, "sends", func(r SessionReport) bool { return r.Err == nil && r.Sent > sent })
		ip("link delete later")
		a.await(t, "error", func(r SessionReport) bool { return r.Err != nil })
	}
}

// What is dropped is counted by reason and changes nothing. What is sent is as
// RFC 5881 wants it.
func TestDropped(t *testing.T) {
	l := lab.ForTest(t, lab.Options{Nodes: 2})
	a := newSide(t, l.Nodes[0].Namespace)
	peer := l.Nodes[1].Addrs[0]
	a.sync(t, Peer{Path{Addr: peer}, Profile{}}, Peer{Path{Addr: lab.ClientAddr4, Multihop: true}, Profile{MinimumTTL: 200}})

	receiver, err := openIn(l.Nodes[1].Namespace, where{})
	if err != nil {
		t.Fatal(err)
	}
	defer receiver.conn.Close()
	var got arrival
	var buffer [maxPacket]byte
	receiver.conn.SetReadDeadline(time.Now().Add(patience))
	err = receiver.raw.Read(func(fd uintptr) bool {
		got, err = receive(fd, buffer[:])
		return !errors.Is(err, unix.EAGAIN)
	})
	first, parseErr := Parse(got.payload)
	if err != nil || parseErr != nil || got.ttl != 255 || got.from != l.Nodes[0].Addrs[0] || first.State != Down || first.Yours != 0 {
		t.Fatalf("%v, %v, %+v, %+v", err, parseErr, got, first)
	}

	send := func(from *lab.Namespace, to string, ttl int, payload []byte) {
		t.Helper()
		conn, err := from.ListenPacket(t.Context(), "udp4", ":0")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		raw, _ := conn.(*net.UDPConn).SyscallConn()
		if err := setInts(raw, unix.IPPROTO_IP, unix.IP_TTL, ttl); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.WriteTo(payload, net.UDPAddrFromAddrPort(netip.MustParseAddrPort(to))); err != nil {
			t.Fatal(err)
		}
	}
	node, client := l.Nodes[1].Namespace, l.Client
	single, multi := l.Nodes[0].Addrs[0].String()+":3784", l.Nodes[0].Addrs[0].String()+":4784"
	up := from(Init)
	up.Yours = first.Mine
	hello := Packet{State: Down, Multiplier: 3, Mine: 9, DesiredTx: time.Second, RequiredRx: time.Second}
	send(node, single, 255, []byte("short"))
	send(node, single, 254, up.Append(nil))
	send(node, single, 255, from(Up).Append(nil)) // discriminator 7
	send(node, multi, 255, up.Append(nil))        // of the other kind
	send(client, single, 255, hello.Append(nil))  // routed: 254
	send(client, multi, 200, hello.Append(nil))   // arrives with 199
	want := map[Drop]uint64{DropShort: 1, DropTTL: 3, DropSession: 2}
	if err := lab.Poll(t.Context(), patience, func() bool { return maps.Equal(a.Report().Dropped, want) }); err != nil {
		t.Fatalf("dropped %v, want %v", a.Report().Dropped, want)
	}
	for _, r := range a.Report().Sessions {
		if r.State != Down || r.Received != 0 {
			t.Errorf("%+v", r)
		}
	}
	send(client, multi, 201, hello.Append(nil)) // arrives with 200
	send(node, single, 255, up.Append(nil))
	if err := lab.Poll(t.Context(), patience, func() bool {
		r := a.Report().Sessions
		return r[0].Received == 1 && r[1].Received == 1 && r[0].PeerDiscriminator == 9
	}); err != nil {
		t.Errorf("%+v", a.Report())
	}
}

func openIn(n *lab.Namespace, w where) (r *receiver, err error) {
	err = n.Do(func() error {
		r, err = openReceiver(w)
		return err
	})
	return r, err
}
