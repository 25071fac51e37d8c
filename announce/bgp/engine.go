// SPDX-License-Identifier: Apache-2.0

package bgp

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"syscall"
	"time"

	api "github.com/osrg/gobgp/v3/api"
	"github.com/osrg/gobgp/v3/pkg/log"
	"github.com/osrg/gobgp/v3/pkg/server"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/fairlead/fairlead/announce/bgp/guard"
)

// loopback is where an engine listens and a session comes from.
const loopback = "127.0.0.1"

// Tuning.
const (
	portAttempts = 16
	openTimeout  = 5 * time.Second
	openInterval = 2 * time.Millisecond
	// While we restart gracefully, gobgp holds routes back until the router's
	// End-of-RIB, or for so long: none of the router's routes counts for ours.
	deferralSeconds = 1
)

// engine is a gobgp server with one peer at most, behind a session. Its server
// cannot be ended, only stopped, and serves the next peer then. Methods are for
// one goroutine at a time, but for set and withdraw, which are for any.
type engine struct {
	server *server.BgpServer
	port   int32
	// key signs the segments of the loopback connection: no other process of the
	// node can take the session's place.
	key string
}

func newEngine(logger *slog.Logger) *engine {
	e := &engine{server: server.NewBgpServer(server.LoggerOption(engineLog{logger})), key: rand.Text()}
	go e.server.Serve()
	return e
}

// start makes it a speaker of the AS. The engine was stopped or is new. gobgp
// writes two variables that all servers share, the same zero values each time:
// that is what the race detector has to say where there is more than one peer.
func (e *engine) start(asn uint32, routerID netip.Addr) error {
	var err error
	for range portAttempts {
		if e.port, err = freePort(); err != nil {
			return err
		}
		err = e.server.StartBgp(context.Background(), &api.StartBgpRequest{Global: &api.Global{
			Asn: asn, RouterId: routerID.String(), ListenPort: e.port, ListenAddresses: []string{loopback},
		}})
		if !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("start gobgp: %w", err)
	}
	return nil
}

// freePort is a port that nobody listened on a moment ago.
func freePort() (int32, error) {
	l, err := net.Listen("tcp4", net.JoinHostPort(loopback, "0"))
	if err != nil {
		return 0, fmt.Errorf("find a port: %w", err)
	}
	defer l.Close()
	return int32(l.Addr().(*net.TCPAddr).Port), nil
}

// stop forgets all routes and stops listening. There is no session any more.
func (e *engine) stop() error {
	err := e.server.DeletePath(context.Background(), &api.DeletePathRequest{TableType: api.TableType_GLOBAL})
	if err == nil {
		err = e.server.StopBgp(context.Background(), &api.StopBgpRequest{})
	}
	if err != nil {
		return fmt.Errorf("stop gobgp: %w", err)
	}
	return nil
}

// open makes gobgp the speaker of a new session and returns the connection to
// it and its OPEN. A peer that is new has no idle hold time, which gobgp would
// wait for after a loss: so each session is that of a new peer.
func (e *engine) open(ctx context.Context, s settings, t timers) (net.Conn, *bufio.Reader, []byte, error) {
	if err := e.server.AddPeer(ctx, &api.AddPeerRequest{Peer: e.peer(s, t)}); err != nil {
		return nil, nil, nil, fmt.Errorf("add peer to gobgp: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	tick := time.NewTicker(openInterval)
	defer tick.Stop()
	for {
		// It may be a moment until the new peer takes connections.
		conn, r, open, err := e.connect(ctx)
		if err == nil {
			return conn, r, open, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, nil, nil, errors.Join(fmt.Errorf("connect to gobgp: %w", err), e.close())
		}
	}
}

func (e *engine) connect(ctx context.Context) (net.Conn, *bufio.Reader, []byte, error) {
	o := socket{remote: netip.MustParseAddr(loopback), password: e.key}
	d := &net.Dialer{Control: o.control, KeepAlive: -1}
	d.SetMultipathTCP(false)
	conn, err := d.DialContext(ctx, "tcp4", net.JoinHostPort(loopback, fmt.Sprint(e.port)))
	if err != nil {
		return nil, nil, nil, err
	}
	r := bufio.NewReaderSize(conn, guard.MaxLen)
	conn.SetReadDeadline(time.Now().Add(openTimeout))
	open, err := readMessage(r, nil)
	if err != nil {
		return nil, nil, nil, errors.Join(err, conn.Close())
	}
	conn.SetReadDeadline(time.Time{})
	return conn, r, open, nil
}

// close ends gobgp's side of the session.
func (e *engine) close() error {
	if err := e.server.DeletePeer(context.Background(), &api.DeletePeerRequest{Address: loopback}); err != nil {
		return fmt.Errorf("delete peer from gobgp: %w", err)
	}
	return nil
}

func (e *engine) peer(s settings, t timers) *api.Peer {
	p := &api.Peer{
		Conf:      &api.PeerConf{NeighborAddress: loopback, PeerAsn: s.peerASN, AuthPassword: e.key},
		Transport: &api.Transport{PassiveMode: true},
		Timers: &api.Timers{Config: &api.TimersConfig{
			HoldTime: uint64(t.hold.Seconds()), KeepaliveInterval: uint64(t.keepalive.Seconds()),
		}},
	}
	if s.restart != 0 {
		// Packets go on whatever happens to the session, and only a speaker that
		// restarts may say so in gobgp.
		p.GracefulRestart = &api.GracefulRestart{
			Enabled: true, RestartTime: uint32(s.restart.Seconds()), DeferralTime: deferralSeconds, LocalRestarting: true,
		}
	}
	for _, f := range s.families() {
		p.AfiSafis = append(p.AfiSafis, &api.AfiSafi{
			Config:            &api.AfiSafiConfig{Family: apiFamily(f), Enabled: true},
			MpGracefulRestart: &api.MpGracefulRestart{Config: &api.MpGracefulRestartConfig{Enabled: s.restart != 0}},
		})
	}
	return p
}

func apiFamily(f guard.Family) *api.Family {
	return &api.Family{Afi: api.Family_Afi(f.AFI), Safi: api.Family_Safi(f.SAFI)}
}

// path is a route as one peer is told it.
type path struct {
	Route
	nextHop netip.Addr
	asPath  []uint32
	// localPref is there if hasLocalPref says so, 0 too.
	localPref    uint32
	hasLocalPref bool
}

// set announces the path in place of the prefix's last one.
func (e *engine) set(p path) error {
	converted, err := p.api()
	if err != nil {
		return fmt.Errorf("write route %s: %w", p.Prefix, err)
	}
	_, err = e.server.AddPath(context.Background(), &api.AddPathRequest{TableType: api.TableType_GLOBAL, Path: converted})
	if err != nil {
		return fmt.Errorf("add route %s to gobgp: %w", p.Prefix, err)
	}
	return nil
}

// withdraw takes the prefix back.
func (e *engine) withdraw(p path) error {
	converted, err := p.api()
	if err != nil {
		return fmt.Errorf("write route %s: %w", p.Prefix, err)
	}
	err = e.server.DeletePath(context.Background(), &api.DeletePathRequest{TableType: api.TableType_GLOBAL, Path: converted})
	if err != nil {
		return fmt.Errorf("delete route %s from gobgp: %w", p.Prefix, err)
	}
	return nil
}

func (p path) api() (*api.Path, error) {
	prefix := &api.IPAddressPrefix{PrefixLen: uint32(p.Prefix.Bits()), Prefix: p.Prefix.Addr().String()}
	nlri, err := anypb.New(prefix)
	if err != nil {
		return nil, err
	}
	f := apiFamily(family(p.Prefix))
	attributes := []proto.Message{&api.OriginAttribute{Origin: 0}} // IGP
	if p.nextHop.Is4() {
		attributes = append(attributes, &api.NextHopAttribute{NextHop: p.nextHop.String()})
	} else {
		attributes = append(attributes, &api.MpReachNLRIAttribute{Family: f, NextHops: []string{p.nextHop.String()}, Nlris: []*anypb.Any{nlri}})
	}
	if len(p.asPath) > 0 {
		attributes = append(attributes, &api.AsPathAttribute{Segments: []*api.AsSegment{{Type: api.AsSegment_AS_SEQUENCE, Numbers: p.asPath}}})
	}
	if p.hasLocalPref {
		attributes = append(attributes, &api.LocalPrefAttribute{LocalPref: p.localPref})
	}
	if len(p.Communities) > 0 {
		attributes = append(attributes, &api.CommunitiesAttribute{Communities: p.Communities})
	}
	if len(p.LargeCommunities) > 0 {
		large := &api.LargeCommunitiesAttribute{}
		for _, c := range p.LargeCommunities {
			large.Communities = append(large.Communities, &api.LargeCommunity{GlobalAdmin: c[0], LocalData1: c[1], LocalData2: c[2]})
		}
		attributes = append(attributes, large)
	}
	out := &api.Path{Family: f, Nlri: nlri}
	for _, a := range attributes {
		packed, err := anypb.New(a)
		if err != nil {
			return nil, err
		}
		out.Pattrs = append(out.Pattrs, packed)
	}
	return out, nil
}

// engineLog gives gobgp's messages to the log. What gobgp says of sessions is
// said by them already, and of its own choice nothing ends the program.
type engineLog struct{ log *slog.Logger }

func (l engineLog) write(level slog.Level, message string, fields log.Fields) {
	if !l.log.Enabled(context.Background(), level) {
		return
	}
	attrs := []any{"message", message}
	for key, value := range fields {
		attrs = append(attrs, key, value)
	}
	l.log.Log(context.Background(), level, "gobgp", slog.Group("gobgp", attrs...))
}

func (l engineLog) Panic(m string, f log.Fields) { l.write(slog.LevelError, m, f) }
func (l engineLog) Fatal(m string, f log.Fields) { l.write(slog.LevelError, m, f) }
func (l engineLog) Error(m string, f log.Fields) { l.write(slog.LevelError, m, f) }
func (l engineLog) Warn(m string, f log.Fields)  { l.write(slog.LevelDebug, m, f) }
func (l engineLog) Info(m string, f log.Fields)  { l.write(slog.LevelDebug, m, f) }
func (l engineLog) Debug(m string, f log.Fields) { l.write(slog.LevelDebug, m, f) }
func (l engineLog) SetLevel(log.LogLevel)        {}

// GetLevel keeps gobgp from writing what nobody reads.
func (l engineLog) GetLevel() log.LogLevel {
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		return log.DebugLevel
	}
	return log.InfoLevel
}
