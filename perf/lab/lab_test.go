// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bufio"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	podserver "github.com/fairlead/fairlead/perf/lab/pod"
)

const testPort = 8080

var discard = slog.New(slog.DiscardHandler)

// ask sends one line or datagram from the namespace and returns the answer.
func ask(t *testing.T, from *Namespace, network string, to netip.AddrPort) podserver.Answer {
	t.Helper()
	conn, err := from.Dial(t.Context(), network, netip.AddrPort{}, to)
	if err != nil {
		t.Fatalf("dial %s %s: %v", network, to, err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := fmt.Fprint(conn, "hello 7\n"); err != nil {
		t.Fatalf("write to %s %s: %v", network, to, err)
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil && network == "tcp" || line == "" {
		t.Fatalf("read from %s %s: %q, %v", network, to, line, err)
	}
	a, err := podserver.ParseAnswer(line)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestClientReachesPods(t *testing.T) {
	for _, tc := range []struct {
		name    string
		options Options
	}{
		{"routed", Options{Nodes: 2, PodsPerNode: 2}},
		{"bridged", Options{Nodes: 2, PodsPerNode: 2, Bridged: true}},
		{"one node", Options{Nodes: 1, PodsPerNode: 1}},
		{"soft hop", Options{Nodes: 2, PodsPerNode: 1, SoftHop: SoftHopAll}},
		{"native", Options{Nodes: 2, PodsPerNode: 1, Native: true}},
		{"no firewall", Options{Nodes: 1, PodsPerNode: 1, NoFirewall: true}},
		{"narrow client", Options{Nodes: 1, PodsPerNode: 1, ClientMTU: 1300}},
		{"far node", Options{Nodes: 3, PodsPerNode: 1, FarMTU: 1400}},
		{"far native", Options{Nodes: 2, PodsPerNode: 1, FarMTU: 1400, FarUplinkMTU: 1400, Native: true, SoftHop: SoftHopAll}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l := ForTest(t, tc.options)
			for _, p := range l.Pods() {
				if err := p.Serve(testPort); err != nil {
					t.Fatal(err)
				}
			}
			checkDirect(t, l)
		})
	}
}

// checkDirect asks every Pod from the client, and from the first Pod.
func checkDirect(t *testing.T, l *Lab) {
	t.Helper()
	for _, p := range l.Pods() {
		for _, network := range []string{"tcp", "udp"} {
			for _, addr := range []netip.Addr{p.Addr4, p.Addr6} {
				got := ask(t, l.Client, network, netip.AddrPortFrom(addr, testPort))
				want := ClientAddr4
				if addr.Is6() {
					want = ClientAddr6
				}
				if got.Pod != p.Host || got.Client.Addr() != want || !strings.HasSuffix(got.Rest, "7") {
					t.Errorf("client to %s over %s: %+v, want client %s", addr, network, got, want)
				}
				ask(t, l.Pods()[0].Namespace, network, netip.AddrPortFrom(addr, testPort))
			}
		}
	}
}

func TestBulkAndSink(t *testing.T) {
	l := ForTest(t, Options{Nodes: 1, PodsPerNode: 1, SoftHop: SoftHopAll})
	p := l.Pods()[0]
	if err := p.Serve(testPort); err != nil {
		t.Fatal(err)
	}
	conn, err := l.Client.Dial(t.Context(), "tcp", netip.AddrPort{}, netip.AddrPortFrom(p.Addr6, testPort))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	const size = 10_000_000
	fmt.Fprintf(conn, "bulk %d\nhello\n", size)
	r := bufio.NewReader(conn)
	if err := podserver.Verify(r, size); err != nil {
		t.Fatal(err)
	}
	if line, err := r.ReadString('\n'); err != nil || !strings.HasPrefix(line, p.Host+" [fd02::2]:") {
		t.Errorf("hello after bulk: %q, %v", line, err)
	}
}

func TestMasqueradeOfPods(t *testing.T) {
	l := ForTest(t, Options{Nodes: 1, PodsPerNode: 1})
	pc, err := l.Client.ListenPacket(t.Context(), "udp4", "10.2.0.2:9000")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	conn, err := l.Pods()[0].Dial(t.Context(), "udp", netip.AddrPort{}, netip.MustParseAddrPort("10.2.0.2:9000"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	pc.SetDeadline(time.Now().Add(5 * time.Second))
	_, from, err := pc.ReadFrom(make([]byte, 16))
	if err != nil {
		t.Fatal(err)
	}
	if got := netip.MustParseAddrPort(from.String()).Addr(); got != l.Nodes[0].Addrs[0] {
		t.Errorf("client sees %s, want the node's address %s", got, l.Nodes[0].Addrs[0])
	}
}

func TestNodesCarryWhatRealOnesDo(t *testing.T) {
	l := ForTest(t, Options{Nodes: 1, PodsPerNode: 1})
	n := l.Nodes[0]
	rules, err := n.Output(t.Context(), "nft", "list", "ruleset")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"policy drop;",
		"ct state invalid counter",
		"ip daddr 10.244.0.0/16 accept",
		"ip6 saddr fd44:1::/64 ip6 daddr != fd44::/16",
		"masquerade",
	} {
		if !strings.Contains(rules, want) {
			t.Errorf("no %q in the node's rules:\n%s", want, rules)
		}
	}
	got := map[string]string{}
	err = n.Do(func() error {
		for _, path := range []string{"ipv4/conf/all/rp_filter", "ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
			b, err := os.ReadFile("/proc/sys/net/" + path)
			if err != nil {
				return err
			}
			got[path] = strings.TrimSpace(string(b))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"ipv4/conf/all/rp_filter": "1", "ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("sysctls (-want +got):\n%s", diff)
	}
}

func TestSetVIPRoute(t *testing.T) {
	l := ForTest(t, Options{Nodes: 3})
	for _, vip := range []netip.Addr{netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("2001:db8:0:1::10")} {
		for _, nodes := range [][]*Node{l.Nodes[:1], l.Nodes, l.Nodes[1:], l.Nodes[2:], nil, l.Nodes, nil, nil} {
			if err := l.SetVIPRoute(vip, nodes...); err != nil {
				t.Fatal(err)
			}
			var want []string
			for _, n := range nodes {
				want = append(want, n.Addr(vip).String())
			}
			if diff := cmp.Diff(want, gateways(t, l.Router, vip)); diff != "" {
				t.Errorf("gateways of %s by %d nodes (-want +got):\n%s", vip, len(nodes), diff)
			}
		}
	}
}

// gateways are those of the route to exactly this address.
func gateways(t *testing.T, n *Namespace, dst netip.Addr) []string {
	t.Helper()
	want := ipNet(netip.PrefixFrom(dst, dst.BitLen()))
	routes, err := n.Netlink().RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Dst: want}, netlink.RT_FILTER_DST)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range routes {
		if r.Gw != nil {
			got = append(got, r.Gw.String())
		}
		for _, hop := range r.MultiPath {
			got = append(got, hop.Gw.String())
		}
	}
	return got
}

func TestSoftHop(t *testing.T) {
	l := ForTest(t, Options{Nodes: 2, SoftHop: SoftHopOwners})
	for port, soft := range map[string]bool{"node1": false, "node2": true, ClientPort: true, routerBridge: false} {
		on, err := l.Router.Offloads(port)
		if err != nil {
			t.Fatal(err)
		}
		if soft != (len(on) == 0) {
			t.Errorf("port %s: soft hop is %v, offloads on: %v", port, soft, on)
		}
	}
}

func TestNativeAttachesPassPrograms(t *testing.T) {
	l := ForTest(t, Options{Nodes: 2, Native: true})
	for _, n := range l.Nodes {
		port, err := l.Router.link(n.Host)
		if err != nil {
			t.Fatal(err)
		}
		if x := port.Attrs().Xdp; x == nil || !x.Attached {
			t.Errorf("no xdp program on port %s: %+v", n.Host, x)
		}
	}
}

func TestAddAndRemovePod(t *testing.T) {
	l := ForTest(t, Options{Nodes: 1, PodsPerNode: 1})
	added, err := l.AddPod(l.Nodes[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := added.Serve(testPort); err != nil {
		t.Fatal(err)
	}
	if got := ask(t, l.Client, "tcp", netip.AddrPortFrom(added.Addr4, testPort)); got.Pod != "pod1-2" {
		t.Errorf("answer of the added pod: %+v", got)
	}
	if err := l.RemovePod(l.Pods()[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(netnsDir, l.prefix()+"pod1-1")); !os.IsNotExist(err) {
		t.Errorf("namespace of the removed pod: %v", err)
	}
	if got := ask(t, l.Client, "tcp", netip.AddrPortFrom(added.Addr6, testPort)); got.Pod != "pod1-2" {
		t.Errorf("answer after the other pod went: %+v", got)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for _, o := range []Options{{Nodes: -1}, {Nodes: 201}, {PodsPerNode: 251}, {PodsPerNode: -1}, {Delay: -1}, {MTU: 1279}, {MTU: 9000},
		{ClientMTU: 1279}, {FarMTU: 1279}, {FarMTU: 9000}, {FarUplinkMTU: 1400}, {FarMTU: 1400, FarUplinkMTU: 1279}} {
		if l, err := New(discard, o); err == nil {
			l.Close()
			t.Errorf("options %+v accepted", o)
		}
	}
}
