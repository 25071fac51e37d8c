// SPDX-License-Identifier: Apache-2.0

package forwardtest

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/dataplane"
	"github.com/fairlead/fairlead/lb/forward"
	"github.com/fairlead/fairlead/lb/maglev"
	"github.com/fairlead/fairlead/lb/packet/packettest"
)

// The world of the vectors: node a is under test.
const (
	geneve = 7471

	clientV4, clientV6 = "198.51.100.7:40000", "[2001:db8:1::7]:40000"
	webV4, webV6       = "192.0.2.1:80", "[2001:db8::1]:80"
	dnsV4, dnsV6       = "192.0.2.1:53", "[2001:db8::1]:53"

	// Pods by node: a1 runs on node a.
	a1, a2, b1, c1     = "10.1.1.1:8080", "10.1.1.2:8080", "10.1.2.1:8080", "10.1.3.1:8080"
	a1v6, b1v6, d1, e1 = "[fd00:1:1::1]:8080", "[fd00:1:2::1]:8080", "10.1.4.1:8080", "10.1.5.1:8080"

	selfV4, selfV6 = "10.0.0.1", "fd00::1"
	nodeB, nodeC   = "10.0.0.2", "10.0.0.3"
	nodeD          = "fd00::4" // has no IPv4

	start = 50_000 // the tick at which most vectors begin
)

var (
	key1 = [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	key2 = [16]byte{2, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	key3 = [16]byte{3, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
)

// nodes run the Pods with addresses that begin so.
var podNodes = map[string]string{
	"10.1.1.": "a", "10.1.2.": "b", "10.1.3.": "c", "10.1.4.": "d", "10.1.5.": "e",
	"[fd00:1:1:": "a", "[fd00:1:2:": "b",
}

func addrs(s ...string) []netip.Addr {
	var out []netip.Addr
	for _, a := range s {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

// Nodes are the nodes of the vectors' world.
func Nodes() []lb.Node {
	return []lb.Node{
		{Name: "a", Addrs: addrs(selfV4, selfV6)},
		{Name: "b", Addrs: addrs(nodeB, "fd00::2")},
		{Name: "c", Addrs: addrs(nodeC)},
		{Name: "d", Addrs: addrs(nodeD)},
		{Name: "e", Addrs: addrs("10.0.0.5")},
	}
}

// settings are node a's.
func settings() forward.Settings { return SettingsOf(Nodes()[0]) }

// SettingsOf are those of one of Nodes.
func SettingsOf(n lb.Node) forward.Settings {
	internal := n.Addrs
	v4, v6 := forward.MSSClamps(1500, internal)
	return forward.Settings{
		InternalIPs: internal, GenevePort: geneve, MAC: packettest.NodeMAC, Keys: [][16]byte{key1, key2}, MTU: 1500,
		MSSClampV4: v4, MSSClampV6: v6, FlowBuckets: 16, FlowKey: [16]byte{0xf1, 0x0e},
	}
}

// Service is one of the world under an address and port, with Pods from
// 10.1.N.0/24 and fd00:1:N::/64, N being 1 for node a and so on; those that are
// draining have a "-" in front.
func Service(proto lb.Proto, addr string, pods ...string) lb.Service {
	return svc(proto, addr, pods...)
}

// svc is a service under an address like webV4, with backends "address:port",
// those that are draining with a "-" in front.
func svc(proto lb.Proto, addr string, backends ...string) lb.Service {
	s := lb.Service{Key: serviceKey(proto, addr), Name: "test", TableSize: maglev.Sizes[0]}
	for _, b := range backends {
		name, draining := strings.CutPrefix(b, "-")
		s.Backends = append(s.Backends, lb.Backend{
			Addr: netip.MustParseAddrPort(name), Node: nodeOf(name), Weight: 1, Draining: draining,
		})
	}
	return s
}

func nodeOf(pod string) string {
	for prefix, node := range podNodes {
		if strings.HasPrefix(pod, prefix) {
			return node
		}
	}
	panic("no node runs " + pod)
}

func serviceKey(proto lb.Proto, addr string) lb.ServiceKey {
	ap := netip.MustParseAddrPort(addr)
	return lb.ServiceKey{VIP: ap.Addr(), Port: ap.Port(), Proto: proto}
}

func withAffinity(s lb.Service, d time.Duration) lb.Service {
	s.Affinity = d
	return s
}

func withRanges(s lb.Service, ranges ...string) lb.Service {
	for _, r := range ranges {
		s.SourceRanges = append(s.SourceRanges, netip.MustParsePrefix(r))
	}
	return s
}

func local(s lb.Service) lb.Service {
	s.Policy = lb.Local
	return s
}

// left is a service that is left to kube-proxy.
func left(proto lb.Proto, addr string) lb.Service {
	s := svc(proto, addr)
	s.Left = true
	return s
}

// table is node a's view of services. It panics on a table that makes no sense.
func table(services ...lb.Service) *lb.Table { return TableOf("a", services...) }

// TableOf is the view of one of the world's nodes.
func TableOf(self string, services ...lb.Service) *lb.Table {
	t, err := lb.NewTable(self, Nodes(), services)
	if err != nil {
		panic(err)
	}
	return t
}

func tables(services ...lb.Service) []*lb.Table { return []*lb.Table{table(services...)} }

// tag is the wire id of a Pod.
func tag(pod string) uint32 { return uint32(lb.WireIDOf(netip.MustParseAddrPort(pod))) }

// tags are the wire ids of home and past.
func tags(pods ...string) (t [4]uint32) {
	for i, p := range pods {
		t[i] = tag(p)
	}
	return t
}

// tableHash is what rides on the wire for the table of these Pods.
func tableHash(s lb.Service) uint16 { return uint16(buildTable(s).Hash) }

// flowHash is the flow hash of a client's packet.
func flowHash(f packettest.Frame) uint64 {
	t := f.Tuple()
	return forward.FlowHash(t.Src.Addr().As16(), forward.PortsWord(t.Src.Port(), t.Dst.Port(), t.Proto))
}

// encapped is the client's packet as node a sends it to another one.
func encapped(f packettest.Frame, node string, position uint8, hash uint16, tags [4]uint32) packettest.Tunnel {
	if f.TTL == 0 {
		f.TTL = 64
	}
	f.TTL--
	src := selfV4
	if netip.MustParseAddr(node).Is6() {
		src = selfV6
	}
	t := packettest.Encap(src, node, geneve, key1, f)
	t.SrcPort = 0xc000 | uint16(flowHash(f)&0x3fff)
	t.TOS, t.Position, t.TableHash, t.Tags = f.TOS, position, hash, tags
	t.Trailer = f.Trailer
	return t
}

// tunnel is the client's packet as another node sends it to node a.
func tunnel(f packettest.Frame, position uint8, tags [4]uint32) packettest.Tunnel {
	f.TTL = 63
	t := packettest.Encap(nodeB, selfV4, geneve, key1, f)
	t.Position, t.TableHash, t.Tags = position, 0x1234, tags
	return t
}

// steered is a tunnel frame as node a sends it on.
func steered(t packettest.Tunnel, node string, position uint8) []byte {
	self := selfV4
	if t.Src.Is6() {
		self = selfV6
	}
	t.Src, t.Dst, t.Position, t.Key = netip.MustParseAddr(self), netip.MustParseAddr(node), position, key1
	return t.Bytes()
}

// delivered is the client's whole packet as a Pod gets it.
func delivered(f packettest.Frame, pod string) []byte {
	f.Dst = netip.MustParseAddrPort(pod)
	return f.Bytes()
}

// fromTunnel is delivered for a packet that came by tunnel.
func fromTunnel(f packettest.Frame, pod string) []byte {
	f.TTL = 63
	return delivered(f, pod)
}

// NodeID finds a node's id by its name.
func NodeID(maps dataplane.Maps, name string) (lb.NodeID, error) {
	state, err := maps.Load()
	if err != nil {
		return 0, err
	}
	for _, n := range Nodes() {
		for id, entry := range state.Nodes {
			if n.Name == name && (entry.Addr == n.Addrs[0] || entry.Addr == n.Addrs[len(n.Addrs)-1]) {
				return id, nil
			}
		}
	}
	return 0, fmt.Errorf("node %q is not in the maps", name)
}

// buildTable is the service's lookup table.
func buildTable(s lb.Service) maglev.Table { return maglev.Build(s.TableSize, s.Backends) }
