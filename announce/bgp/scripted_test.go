// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	api "github.com/osrg/gobgp/v3/api"

	"github.com/fairlead/fairlead/announce/bgp/guard"
	"github.com/fairlead/fairlead/perf/lab"
)

// The routers' AS and the nodes', and how long a test waits for what will be so.
const (
	routerASN = 65000
	nodeASN   = 4_200_000_011
	within    = 20 * time.Second
)

var vip4 = netip.MustParsePrefix("198.51.100.1/32")

// scripted is a router on loopback that says what the test wants.
type scripted struct {
	*testing.T
	listener net.Listener
	open     guard.Open
	conn     net.Conn
	in       *bufio.Reader
}

// routerAddr is the scripted router's, and the node's is another one.
var (
	scriptedAddr = netip.MustParseAddr("127.0.0.2")
	nodeAddr     = netip.MustParseAddr("127.0.0.3")
)

func newScripted(t *testing.T) *scripted {
	t.Helper()
	l, err := net.Listen("tcp4", netip.AddrPortFrom(scriptedAddr, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return &scripted{T: t, listener: l, open: guard.Open{
		ASN: routerASN, HoldTime: 90, RouterID: netip.MustParseAddr("192.0.2.1"),
		Families: []guard.Family{guard.IPv4, guard.IPv6}, FourOctet: true, RouteRefresh: true,
	}}
}

// peer is the node's side.
func (s *scripted) peer() Peer {
	return Peer{
		Address: scriptedAddr, Port: s.listener.Addr().(*net.TCPAddr).AddrPort().Port(), Source: nodeAddr,
		LocalASN: nodeASN, PeerASN: routerASN, RouterID: netip.MustParseAddr("192.0.2.11"),
		DualStack: true, NextHop6: netip.MustParseAddr("2001:db8::11"), ConnectTime: 200 * time.Millisecond,
	}
}

func (s *scripted) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *scripted) use(conn net.Conn) {
	s.Cleanup(func() { conn.Close() })
	s.must(conn.SetDeadline(time.Now().Add(within)))
	s.conn, s.in = conn, bufio.NewReader(conn)
}

// accept takes the node's connection.
func (s *scripted) accept() {
	s.Helper()
	s.must(s.listener.(*net.TCPListener).SetDeadline(time.Now().Add(within)))
	conn, err := s.listener.Accept()
	s.must(err)
	s.use(conn)
}

func (s *scripted) send(messages ...[]byte) {
	s.Helper()
	for _, m := range messages {
		_, err := s.conn.Write(m)
		s.must(err)
	}
}

// receive reads the next message of the type, and fails at another one.
func (s *scripted) receive(want guard.Type) []byte {
	s.Helper()
	m, err := readMessage(s.in, nil)
	s.must(err)
	if got := guard.Type(m[guard.HeaderLen-1]); got != want {
		s.Fatalf("node sent a message of type %d, want %d: %x", got, want, m)
	}
	return m
}

var keepalive = guard.AppendMessage(nil, guard.TypeKeepalive)

// establish opens a session on the connection and returns the node's OPEN.
func (s *scripted) establish() *guard.Open {
	s.Helper()
	open, err := guard.ParseOpen(s.receive(guard.TypeOpen))
	s.must(err)
	s.send(s.open.Append(nil), keepalive)
	s.receive(guard.TypeKeepalive)
	return open
}

func (s *scripted) speaker(o Options) *Speaker {
	s.Helper()
	speaker, err := New(slog.New(slog.DiscardHandler), o)
	s.must(err)
	s.Cleanup(func() {
		if err := speaker.Close(false); err != nil {
			s.Errorf("close speaker: %v", err)
		}
	})
	return speaker
}

func (s *scripted) sync(speaker *Speaker, routes []Route, peers ...Peer) {
	s.Helper()
	s.must(speaker.Sync(s.Context(), Desired{Peers: peers, Routes: routes}))
}

// eventually waits until the speaker's first peer is as wanted.
func (s *scripted) eventually(speaker *Speaker, ok func(PeerReport) bool) PeerReport {
	s.Helper()
	var r PeerReport
	err := lab.Poll(s.Context(), within, func() bool { r = speaker.Report()[0]; return ok(r) })
	if err != nil {
		s.Fatalf("%v: %+v", err, r)
	}
	return r
}

// fullTable writes so many UPDATEs of 200 routes each.
func fullTable(w io.Writer, updates int) error {
	out := bufio.NewWriterSize(w, 1<<16)
	body := []byte{0, 0, 0, 14 + 6, 0x40, 1, 1, 0, 0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xe8, 0x40, 3, 4, 192, 0, 2, 1}
	for i := range updates {
		m := bytes.Clone(body)
		for j := range 200 {
			m = binary.BigEndian.AppendUint32(append(m, 32), 0x0b000000+uint32(i*200+j))
		}
		if _, err := out.Write(guard.AppendMessage(nil, guard.TypeUpdate, m...)); err != nil {
			return err
		}
	}
	return out.Flush()
}

// gobgp is how many messages of each kind gobgp got, and routes it has.
func (s *scripted) gobgp(speaker *Speaker) (messages *api.Message, routes uint64) {
	s.Helper()
	err := speaker.all()[0].engine.server.ListPeer(s.Context(), &api.ListPeerRequest{}, func(p *api.Peer) {
		messages = p.State.Messages.Received
		for _, f := range p.AfiSafis {
			routes += f.State.Received
		}
	})
	s.must(err)
	return messages, routes
}

// TestMillionRoutes has a router send a full table and all kinds of UPDATEs that
// no parser should have to see: nothing of it reaches gobgp, and the session
// lives on.
func TestMillionRoutes(t *testing.T) {
	s := newScripted(t)
	speaker := s.speaker(Options{})
	s.sync(speaker, []Route{{Prefix: vip4}}, s.peer())
	s.accept()
	s.establish()
	s.receive(guard.TypeUpdate) // the VIP
	s.must(fullTable(s.conn, 5000))
	s.send(crafted()...)
	sent := uint64(5000 + len(crafted()))
	s.send(guard.AppendMessage(nil, guard.TypeRouteRefresh, 0, 1, 0, 1))
	s.receive(guard.TypeUpdate) // the answer: all before was read
	r := s.eventually(speaker, func(r PeerReport) bool { return r.Received[guard.ReasonUpdate] == sent })
	if r.State != StateEstablished || r.Sessions != 1 {
		t.Errorf("after the table: %+v", r)
	}
	messages, routes := s.gobgp(speaker)
	if messages.Update != 0 || routes != 0 || messages.Refresh != 1 {
		t.Errorf("gobgp got %d UPDATEs with %d routes and %d ROUTE-REFRESHs, want none and 1", messages.Update, routes, messages.Refresh)
	}
}

// crafted are UPDATEs that lie about their lengths, and attributes of every
// type, of no length, cut, and full of ones.
func crafted() [][]byte {
	update := func(attributes ...byte) []byte {
		body := binary.BigEndian.AppendUint16([]byte{0, 0}, uint16(len(attributes)))
		return guard.AppendMessage(nil, guard.TypeUpdate, append(body, attributes...)...)
	}
	all := [][]byte{
		guard.AppendMessage(nil, guard.TypeUpdate),
		guard.AppendMessage(nil, guard.TypeUpdate, 0xff, 0xff),
		guard.AppendMessage(nil, guard.TypeUpdate, 0, 0, 0xff, 0xff),
		guard.AppendMessage(nil, guard.TypeUpdate, 0, 1, 255, 0, 0),
	}
	for kind := range 256 {
		for _, flags := range []byte{0x40, 0x80, 0xc0, 0xe0} {
			all = append(all,
				update(flags, byte(kind), 0),
				update(flags, byte(kind), 200, 1, 2),
				update(append([]byte{flags, byte(kind), 64}, bytes.Repeat([]byte{0xff}, 64)...)...),
				update(flags|0x10, byte(kind), 0xff, 0xff))
		}
	}
	return all
}

func TestEndOfRIBGoesThrough(t *testing.T) {
	s := newScripted(t)
	speaker := s.speaker(Options{})
	s.sync(speaker, nil, s.peer())
	s.accept()
	s.establish()
	s.send(guard.AppendMessage(nil, guard.TypeUpdate, 0, 0, 0, 0))
	s.send(guard.AppendMessage(nil, guard.TypeUpdate, 0, 0, 0, 6, 0x80, 15, 3, 0, 2, 1))
	err := lab.Poll(t.Context(), within, func() bool { m, _ := s.gobgp(speaker); return m.Update == 2 })
	if err != nil {
		t.Errorf("gobgp has not got both marks: %v", err)
	}
}

// TestEndings wants the reason why a session ended in the report, the router to
// be told, and the next session to come soon.
func TestEndings(t *testing.T) {
	bad := func(change func(*guard.Open)) func(*scripted) {
		return func(s *scripted) {
			change(&s.open)
			s.receive(guard.TypeOpen)
			s.send(s.open.Append(nil))
		}
	}
	established := func(messages ...[]byte) func(*scripted) {
		return func(s *scripted) { s.establish(); s.send(messages...) }
	}
	for _, tc := range []struct {
		name   string
		peer   func(*Peer)
		do     func(*scripted)
		err    string
		notify [2]byte // {0, 0}: the router is told nothing
	}{
		{"other AS", nil, bad(func(o *guard.Open) { o.ASN = 65009 }), "router's AS number is 65009, want 65000", [2]byte{2, 2}},
		{"external, and own AS", func(p *Peer) { p.PeerASN, p.DynamicASN = 0, "external" },
			bad(func(o *guard.Open) { o.ASN = nodeASN }), "the own: want another", [2]byte{2, 2}},
		{"internal, and other AS", func(p *Peer) { p.PeerASN, p.DynamicASN = 0, "internal" },
			bad(func(*guard.Open) {}), "want the own, 4200000011", [2]byte{2, 2}},
		{"no common family", func(p *Peer) { p.DualStack = false },
			bad(func(o *guard.Open) { o.Families = []guard.Family{guard.IPv6} }), "router speaks none of [ipv4-unicast]", [2]byte{2, 7}},
		{"bad OPEN", nil, func(s *scripted) {
			s.receive(guard.TypeOpen)
			s.send(guard.AppendMessage(nil, guard.TypeOpen, 4))
		}, "malformed BGP message: OPEN of 20 bytes", [2]byte{2, 0}},
		{"no BGP", nil, func(s *scripted) {
			s.receive(guard.TypeOpen)
			s.send([]byte("HTTP/1.1 400 Bad Request\r\n"))
		}, "marker is not all ones", [2]byte{1, 0}},
		{"second OPEN", nil, func(s *scripted) { s.establish(); s.send(s.open.Append(nil)) }, "second OPEN", [2]byte{5, 0}},
		{"NOTIFICATION", nil, established(guard.AppendMessage(nil, guard.TypeNotification, 6, 2, 4, 'w', 'o', 'r', 'k')),
			`router sent NOTIFICATION 6/2 cease: administrative shutdown ("work")`, [2]byte{}},
		{"close", nil, func(s *scripted) { s.establish(); s.conn.(*net.TCPConn).CloseWrite() }, "router closed the connection", [2]byte{}},
		{"reset", nil, func(s *scripted) { s.establish(); s.conn.(*net.TCPConn).SetLinger(0); s.conn.Close() }, "connection reset by peer", [2]byte{}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newScripted(t)
			speaker := s.speaker(Options{})
			p := s.peer()
			if tc.peer != nil {
				tc.peer(&p)
			}
			s.sync(speaker, nil, p)
			s.accept()
			tc.do(s)
			if tc.name != "reset" {
				s.checkLast(tc.notify)
			}
			s.eventually(speaker, func(r PeerReport) bool { return strings.Contains(r.Error, tc.err) })
			s.open = newScripted(t).open
			s.accept()
			if tc.peer == nil {
				s.establish()
				s.eventually(speaker, func(r PeerReport) bool { return r.State == StateEstablished })
			}
		})
	}
}

// checkLast wants the connection to end, with that NOTIFICATION or none.
func (s *scripted) checkLast(want [2]byte) {
	s.Helper()
	defer s.conn.Close()
	var got [2]byte
	for {
		m, err := readMessage(s.in, nil)
		if err != nil {
			break
		}
		if guard.Type(m[guard.HeaderLen-1]) == guard.TypeNotification {
			got = [2]byte(m[guard.HeaderLen:])
		}
	}
	if got != want {
		s.Errorf("node's last words: %v, want %v", got, want)
	}
}

// TestAnyAS has routers say their own AS numbers.
func TestAnyAS(t *testing.T) {
	for kind, asn := range map[string]uint32{"internal": nodeASN, "external": 65123} {
		t.Run(kind, func(t *testing.T) {
			s := newScripted(t)
			s.open.ASN = asn
			p := s.peer()
			p.PeerASN, p.DynamicASN = 0, kind
			speaker := s.speaker(Options{})
			s.sync(speaker, nil, p)
			s.accept()
			s.establish()
			r := s.eventually(speaker, func(r PeerReport) bool { return r.State == StateEstablished })
			if r.ASN != asn {
				t.Errorf("report has AS number %d, want %d", r.ASN, asn)
			}
		})
	}
}

// TestHoldTimes are what the router is told and both agree on.
func TestHoldTimes(t *testing.T) {
	seconds := func(n int) *time.Duration { d := time.Duration(n) * time.Second; return &d }
	for _, tc := range []struct {
		name            string
		hold, keepalive *time.Duration
		router          uint16
		wantSaid        uint16
		want            time.Duration
	}{
		{"default", nil, nil, 180, 90, 90 * time.Second},
		{"router's is lower", nil, nil, 9, 90, 9 * time.Second},
		{"ours is lower", seconds(12), seconds(4), 90, 12, 12 * time.Second},
		{"from keepalive", nil, seconds(20), 90, 60, time.Minute},
		{"for ever", seconds(0), nil, 90, 0, 0},
		{"router wants for ever", nil, nil, 0, 90, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newScripted(t)
			s.open.HoldTime = tc.router
			p := s.peer()
			p.HoldTime, p.KeepaliveTime = tc.hold, tc.keepalive
			speaker := s.speaker(Options{})
			s.sync(speaker, nil, p)
			s.accept()
			open := s.establish()
			if open.HoldTime != tc.wantSaid {
				t.Errorf("node says hold time %d s, want %d", open.HoldTime, tc.wantSaid)
			}
			r := s.eventually(speaker, func(r PeerReport) bool { return r.State == StateEstablished })
			if r.HoldTime != tc.want {
				t.Errorf("report has hold time %v, want %v", r.HoldTime, tc.want)
			}
		})
	}
}

// TestKeepalives wants KEEPALIVEs in the configured time, and the session to
// end when the router falls silent.
func TestKeepalives(t *testing.T) {
	s := newScripted(t)
	p := s.peer()
	hold, keep := 3*time.Second, time.Second
	p.HoldTime, p.KeepaliveTime = &hold, &keep
	speaker := s.speaker(Options{})
	s.sync(speaker, nil, p)
	s.accept()
	s.establish()
	s.receive(guard.TypeKeepalive)
	s.receive(guard.TypeKeepalive)
	s.eventually(speaker, func(r PeerReport) bool { return r.Error == "sent NOTIFICATION 4/0 hold timer expired" })
	s.checkLast([2]byte{4, 0})
}

func TestFail(t *testing.T) {
	s := newScripted(t)
	changed := make(chan struct{}, 100)
	speaker := s.speaker(Options{Changed: func() { changed <- struct{}{} }})
	s.sync(speaker, nil, s.peer())
	s.accept()
	s.establish()
	s.eventually(speaker, func(r PeerReport) bool { return r.State == StateEstablished })
	speaker.Fail(nodeAddr, "not this router")
	speaker.Fail(scriptedAddr, "BFD session is down")
	s.checkLast([2]byte{6, 10})
	s.eventually(speaker, func(r PeerReport) bool { return r.Error == "BFD session is down" })
	s.accept()
	s.establish()
	s.eventually(speaker, func(r PeerReport) bool { return r.State == StateEstablished })
	// Connecting, opening, established, idle, and again up.
	if got := len(changed); got != 7 {
		t.Errorf("told of %d changes, want 7", got)
	}
}

// TestRestartWithoutEndOfRIB has routers that promise to say when they told all
// their routes, and do not.
func TestRestartWithoutEndOfRIB(t *testing.T) {
	s := newScripted(t)
	s.open.Restart = &guard.Restart{Time: 120, Families: []guard.RestartFamily{{Family: guard.IPv4}, {Family: guard.IPv6}}}
	p := s.peer()
	p.GracefulRestart = true
	speaker := s.speaker(Options{})
	s.sync(speaker, []Route{{Prefix: vip4}}, p)
	s.accept()
	open := s.establish()
	want := &guard.Restart{Restarting: true, Time: 120, Families: []guard.RestartFamily{
		{Family: guard.IPv4, Flags: 0x80}, {Family: guard.IPv6, Flags: 0x80},
	}}
	if diff := cmp.Diff(want, open.Restart); diff != "" {
		t.Errorf("node's graceful restart capability, -want +got:\n%s", diff)
	}
	s.receive(guard.TypeUpdate)
}

// TestEngines wants the gobgp server of a peer that is gone to serve the next
// one, which knows nothing of its routes: a server cannot be ended.
func TestEngines(t *testing.T) {
	s := newScripted(t)
	speaker := s.speaker(Options{})
	p := s.peer()
	engines := map[*engine]bool{}
	for i := range byte(20) {
		p.RouterID = netip.AddrFrom4([4]byte{192, 0, 2, i + 1})
		s.sync(speaker, []Route{{Prefix: prefix(i)}}, p)
		engines[speaker.all()[0].engine] = true
		s.accept()
		if open := s.establish(); open.RouterID != p.RouterID {
			t.Errorf("node says router id %s, want %s", open.RouterID, p.RouterID)
		}
		m := s.receive(guard.TypeUpdate)
		if want := []byte{32, 198, 51, 100, i}; !bytes.HasSuffix(m, want) {
			t.Errorf("node announces %x, want %x at the end", m, want)
		}
		go func(conn net.Conn, in io.Reader) {
			io.Copy(io.Discard, in)
			conn.Close()
		}(s.conn, s.in)
	}
	if len(engines) != 1 {
		t.Errorf("%d gobgp servers for one peer at a time", len(engines))
	}
}

func prefix(last byte) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 51, 100, last}), 32)
}

// TestClose wants a node that restarts to say nothing, and one that leaves to
// say so.
func TestClose(t *testing.T) {
	for restarts, want := range map[bool][2]byte{true: {}, false: {6, 2}} {
		t.Run(fmt.Sprint(restarts), func(t *testing.T) {
			s := newScripted(t)
			speaker := s.speaker(Options{})
			s.sync(speaker, []Route{{Prefix: vip4}}, s.peer())
			s.accept()
			s.establish()
			s.receive(guard.TypeUpdate)
			closed := make(chan error, 1)
			go func() { closed <- speaker.Close(restarts) }()
			s.checkLast(want)
			s.must(<-closed)
			if err := speaker.Sync(t.Context(), Desired{}); !errors.Is(err, ErrClosed) {
				t.Errorf("sync after close: %v", err)
			}
		})
	}
}

// TestListener has the router connect, from an address that no peer has and
// from the peer's.
func TestListener(t *testing.T) {
	s := newScripted(t)
	port, err := freePort()
	s.must(err)
	speaker := s.speaker(Options{ListenPort: uint16(port)})
	p := s.peer()
	p.ConnectTime = time.Hour // the first attempts are at once
	s.must(s.listener.Close())
	s.sync(speaker, []Route{{Prefix: vip4}}, p)

	to := netip.AddrPortFrom(nodeAddr, uint16(port)).String()
	dial := func(from netip.Addr) net.Conn {
		d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))}
		conn, err := d.DialContext(t.Context(), "tcp4", to)
		s.must(err)
		return conn
	}
	s.use(dial(netip.MustParseAddr("127.0.0.9")))
	if m, err := readMessage(s.in, nil); err == nil {
		t.Errorf("a stranger got %x", m)
	}
	s.use(dial(scriptedAddr))
	s.establish()
	s.receive(guard.TypeUpdate)
	r := s.eventually(speaker, func(r PeerReport) bool { return r.State == StateEstablished })
	if r.Source != nodeAddr {
		t.Errorf("report has source %s, want %s", r.Source, nodeAddr)
	}
	// One session is enough.
	first := s.conn
	s.use(dial(scriptedAddr))
	if m, err := readMessage(s.in, nil); err == nil {
		t.Errorf("a second connection got %x", m)
	}
	if _, err := first.Write(keepalive); err != nil {
		t.Errorf("first connection: %v", err)
	}
}

// TestPassword has both sides sign, and one alone.
func TestPassword(t *testing.T) {
	s := newScripted(t)
	o := socket{remote: nodeAddr, password: "secret"}
	raw, err := s.listener.(*net.TCPListener).SyscallConn()
	s.must(err)
	if err := o.control("", "", raw); err != nil {
		t.Skipf("no TCP MD5 signatures here: %v", err)
	}
	p := s.peer()
	p.Password = "secret"
	speaker := s.speaker(Options{})
	s.sync(speaker, nil, p)
	s.accept()
	s.establish()
	s.eventually(speaker, func(r PeerReport) bool { return r.State == StateEstablished })
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(nodeAddr, 0)), Timeout: 100 * time.Millisecond}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if conn, err := d.DialContext(ctx, "tcp4", s.listener.Addr().String()); err == nil {
		conn.Close()
		t.Error("the listener takes connections without signature: the test shows nothing")
	}
}

// TestLoopbackIsSigned wants nobody but the session to reach gobgp.
func TestLoopbackIsSigned(t *testing.T) {
	s := newScripted(t)
	speaker := s.speaker(Options{})
	s.sync(speaker, nil, s.peer())
	s.accept()
	s.establish()
	d := net.Dialer{Timeout: 200 * time.Millisecond}
	address := net.JoinHostPort(loopback, fmt.Sprint(speaker.all()[0].engine.port))
	if conn, err := d.DialContext(t.Context(), "tcp4", address); err == nil {
		conn.Close()
		t.Error("gobgp takes a connection without signature")
	}
}

// TestTTL has routers that drop packets with less than 255, and some that send
// less, all at once: those that fail take the time of an attempt.
func TestTTL(t *testing.T) {
	cases := []struct {
		name   string
		router socket
		change func(*Peer)
		fails  bool
	}{
		{"sent with 255", socket{minTTL: 255}, func(p *Peer) { p.TTL = 255 }, false},
		{"sent with less", socket{minTTL: 255}, func(p *Peer) { p.TTL = 254 }, true},
		{"sent with 1 to an external peer", socket{minTTL: 2}, func(*Peer) {}, true},
		{"sent with 255 to one behind hops", socket{minTTL: 255}, func(p *Peer) { p.MultiHop = true }, false},
		{"received with enough", socket{ttl: 254}, func(p *Peer) { p.MinTTL = 254 }, false},
		{"received with less", socket{ttl: 254}, func(p *Peer) { p.MinTTL = 255 }, true},
	}
	routers, speakers := make([]*scripted, len(cases)), make([]*Speaker, len(cases))
	for i, tc := range cases {
		s := newScripted(t)
		raw, err := s.listener.(*net.TCPListener).SyscallConn()
		s.must(err)
		tc.router.remote = nodeAddr
		s.must(tc.router.control("", "", raw))
		p := s.peer()
		tc.change(&p)
		routers[i], speakers[i] = s, s.speaker(Options{})
		s.sync(speakers[i], nil, p)
	}
	for i, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			s := routers[i]
			s.T = t
			if !tc.fails {
				s.accept()
				s.establish()
				return
			}
			r := s.eventually(speakers[i], func(r PeerReport) bool { return r.Error != "" })
			if !strings.Contains(r.Error, "i/o timeout") {
				t.Errorf("got %+v, want a timeout", r)
			}
		})
	}
}

// TestAnnounced has a router that speaks one family, and a session of both.
func TestAnnounced(t *testing.T) {
	s := newScripted(t)
	s.open.Families = []guard.Family{guard.IPv4}
	speaker := s.speaker(Options{})
	p := s.peer()
	six := netip.MustParsePrefix("2001:db8::1/128")
	s.sync(speaker, []Route{{Prefix: vip4}, {Prefix: six}}, p)
	if got := speaker.Announced(vip4); got != nil {
		t.Errorf("announced to %v before there is a session", got)
	}
	s.accept()
	s.establish()
	s.receive(guard.TypeUpdate)
	r := s.eventually(speaker, func(r PeerReport) bool { return r.State == StateEstablished })
	if diff := cmp.Diff([]netip.AddrPort{p.Name()}, speaker.Announced(vip4), cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
		t.Errorf("announced to, -want +got:\n%s", diff)
	}
	if got := speaker.Announced(six); got != nil || r.Prefixes != 1 || r.Unannounced != 1 {
		t.Errorf("IPv6 announced to %v, report %+v", got, r)
	}
	if got := speaker.Announced(prefix(9)); got != nil {
		t.Errorf("a route that is not announced to %v", got)
	}
}
