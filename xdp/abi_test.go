// SPDX-License-Identifier: Apache-2.0

package xdp

import (
	"net/netip"
	"strings"
	"testing"
	"unsafe"

	"github.com/cilium/ebpf/btf"
	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/dataplane"
	"github.com/fairlead/fairlead/lb/flow"
	"github.com/fairlead/fairlead/lb/forward"
	"github.com/fairlead/fairlead/lb/packet"
)

// Numbers that Go needs without the object have a second home; they must agree.
func TestTwinNumbers(t *testing.T) {
	for _, row := range []struct {
		name string
		c, g int
	}{
		{"wire version", int(bpfLbVersionLB_VERSION_WIRE), packet.WireVersion},
		{"geneve class", int(bpfLbGeneveLB_GENEVE_CLASS), packet.GeneveClass},
		{"geneve type", int(bpfLbGeneveLB_GENEVE_TYPE), packet.GeneveType},
		{"geneve words", int(bpfLbGeneveLB_GENEVE_OPTION_WORDS), packet.GeneveOptionWords},
		{"encap v4", int(bpfLbGeneveLB_ENCAP_V4), packet.EncapLenV4},
		{"encap v6", int(bpfLbGeneveLB_ENCAP_V6), packet.EncapLenV6},
		{"past", int(bpfLbLimitLB_PAST_MAX), packet.PastMax},
		{"no backend", int(bpfLbLimitLB_NO_BACKEND), dataplane.NoBackend},
		{"slots per line", int(bpfLbLimitLB_LINE_SLOTS), dataplane.SlotsPerLine},
		{"transition slots per line", int(bpfLbLimitLB_LINE_TRANSITION_SLOTS), dataplane.TransitionSlotsPerLine},
		{"backends per line", int(bpfLbLimitLB_LINE_BACKENDS), dataplane.BackendsPerLine},
		{"ways", int(bpfLbLimitLB_FLOW_WAYS), flow.Ways},
		{"ack window", int(bpfLbLimitLB_FLOW_ACK_WINDOW), flow.AckWindow},
		{"port tries", int(bpfLbLimitLB_PORT_TRIES), flow.PortTries},
		{"extension headers", int(bpfLbLimitLB_EXTENSIONS_MAX), packet.ExtensionsMax},
		{"bytes of extension headers", int(bpfLbLimitLB_EXTENSIONS_BYTES), packet.ExtensionsBytes},
		{"fragment ticks", int(bpfLbLimitLB_FRAGMENT_TICKS), flow.FragmentTicks},
		{"path mtu ticks", int(bpfLbLimitLB_PATH_MTU_TICKS), forward.PathMTUTicks},
		{"tcp half-open", int(bpfLbTimeoutLB_TIMEOUT_TCP_HALF_OPEN), flow.TimeoutTCPHalfOpen},
		{"tcp established", int(bpfLbTimeoutLB_TIMEOUT_TCP_ESTABLISHED), flow.TimeoutTCPEstablished},
		{"tcp fin", int(bpfLbTimeoutLB_TIMEOUT_TCP_FIN), flow.TimeoutTCPFin},
		{"tcp closed", int(bpfLbTimeoutLB_TIMEOUT_TCP_CLOSED), flow.TimeoutTCPClosed},
		{"udp half-open", int(bpfLbTimeoutLB_TIMEOUT_UDP_HALF_OPEN), flow.TimeoutUDPHalfOpen},
		{"udp established", int(bpfLbTimeoutLB_TIMEOUT_UDP_ESTABLISHED), flow.TimeoutUDPEstablished},
		{"flow kinds", int(bpfLbFlowKindLB_FLOW_AFFINITY), int(flow.Affinity)},
		{"flow established", int(bpfLbFlowStateLB_FLOW_ESTABLISHED), int(flow.Established)},
		{"position home", int(bpfLbPositionLB_POSITION_HOME), int(packet.PositionHome)},
		{"position redirected", int(bpfLbPositionLB_POSITION_REDIRECTED), int(packet.PositionRedirected)},
		{"reasons", int(bpfLbReasonLB_R_MAX), int(forward.ReasonCount)},
		{"record size", int(unsafe.Sizeof(bpfLbFlow{})), flowSize},
		{"service record size", int(unsafe.Sizeof(bpfLbService{})), serviceRecordLength},
		{"table word", int(unsafe.Offsetof(bpfLbService{}.Table)), serviceRecordTable},
		{"ways of a bucket", len(bpfLbFlowBucket{}.Ways), flowWays},
	} {
		if row.c != row.g {
			t.Errorf("%s: %d in C, %d in Go", row.name, row.c, row.g)
		}
	}
}

// Names and verdicts of reasons are those of the enumerators and of the twin.
func TestReasons(t *testing.T) {
	spec, err := loadBpf()
	if err != nil {
		t.Fatal(err)
	}
	var enum *btf.Enum
	if err := spec.Types.TypeByName("lb_reason", &enum); err != nil {
		t.Fatal(err)
	}
	for _, v := range enum.Values {
		name := strings.ToLower(strings.TrimPrefix(v.Name, "LB_R_"))
		r := bpfLbReason(v.Value)
		if r == reasons {
			continue
		}
		if reasonNames[r] != name || forward.Reason(r).String() != name {
			t.Errorf("reason %d: %q in C, %q in xdp, %q in forward", r, name, reasonNames[r], forward.Reason(r))
		}
		if twin := forward.Reason(r).Verdict().String(); r != bpfLbReasonLB_R_NONE && verdictOf(r) != twin {
			t.Errorf("verdict of %s: %s in xdp, %s in forward", name, verdictOf(r), twin)
		}
	}
}

func TestTableWordRoundTrip(t *testing.T) {
	for _, ref := range []dataplane.TableRef{
		{},
		{Line: 1<<24 - 1, Size: 15, Transition: true, Generation: 1<<18 - 1, Hash: 0xffff},
		{Line: 5, Size: 1, Generation: 1, Hash: 2},
		{Line: 0, Size: 9, Transition: true, Generation: 3},
	} {
		if got := unpackTable(packTable(ref)); got != ref {
			t.Errorf("got %+v, want %+v", got, ref)
		}
	}
}

func TestEntriesRoundTrip(t *testing.T) {
	key := lb.ServiceKey{VIP: netip.MustParseAddr("192.0.2.1"), Port: 0x1234, Proto: lb.UDP}
	if got := toServiceKey(key); got.Port != 0x3412 || got.toLB() != key {
		t.Errorf("service key: %+v comes back as %+v", got, got.toLB())
	}
	service := dataplane.ServiceEntry{
		Key: key, Table: dataplane.TableRef{Line: 7, Size: 2, Generation: 9, Hash: 11},
		Left: true, Adopted: true, Local: true, Closed: true, Elsewhere: true, HasRanges: true, AffinityTicks: 12, PastUntil: 13,
	}
	if diff := cmp.Diff(service, toService(service).toEntry(), byValue); diff != "" {
		t.Errorf("service (-want +got):\n%s", diff)
	}
	backend := dataplane.BackendEntry{Addr: netip.MustParseAddrPort("[2001:db8::5]:8080"), Node: 3}
	if got := toBackend(backend).toEntry(); got != backend {
		t.Errorf("backend: got %+v, want %+v", got, backend)
	}
	for _, p := range []string{"0.0.0.0/0", "10.0.0.0/8", "192.0.2.1/32", "::/0", "2001:db8::/32", "2001:db8::1/128"} {
		want := dataplane.SourceRangeKey{Service: 4, Prefix: netip.MustParsePrefix(p)}
		if got := toRangeKey(want.Service, want.Prefix).toLB(); got != want {
			t.Errorf("range %s: got %s", p, got.Prefix)
		}
	}
}

func TestParseMode(t *testing.T) {
	for in, want := range map[string]Mode{"": Auto, "auto": Auto, "native": Native, "generic": Generic, "off": Off} {
		if got, err := ParseMode(in); got != want || err != nil {
			t.Errorf("%q: got %q, %v", in, got, err)
		}
	}
	want := `unknown xdp mode "fast": want auto, native, generic or off`
	if _, err := ParseMode("fast"); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
