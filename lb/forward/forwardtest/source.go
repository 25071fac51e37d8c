// SPDX-License-Identifier: Apache-2.0

package forwardtest

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/lb"
	"github.com/fairlead/fairlead/lb/dataplane"
	"github.com/fairlead/fairlead/lb/forward"
	"github.com/fairlead/fairlead/lb/maglev"
)

// Source is the vector as Go code for this package, to be kept under a name.
// What it wants is what the twin makes of it now: that may be the wrong one.
func (v Vector) Source(t testing.TB) string {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "{\n\tName: %q, Settings: settingsWith(%d%s),\n", v.Name, v.Settings.FlowBuckets, quoted(v.Settings.InternalIPs))
	if v.Adopt {
		b.WriteString("\tAdopt: true,\n")
	}
	b.WriteString("\tTables: []*lb.Table{\n")
	for _, table := range v.Tables {
		fmt.Fprintf(&b, "\t\t%s,\n", tableSource(table))
	}
	b.WriteString("\t},\n\tRedirects: []Redirect{\n")
	for _, r := range v.Redirects {
		fmt.Fprintf(&b, "\t\t{Client: %q, Service: serviceKey(%s), Node: %q, Until: %d},\n", r.Client, keySource(r.Service), r.Node, r.Until)
	}
	b.WriteString("\t},\n\tSteps: []Step{\n")
	for _, s := range v.wanting(t) {
		fmt.Fprintf(&b, "\t\t%s,\n", s.source())
	}
	b.WriteString("\t},\n},\n")
	return b.String()
}

// wanting are the steps with what the twin makes of them.
func (v Vector) wanting(t testing.TB) []Step {
	t.Helper()
	var steps []Step
	twin, tick := NewTwin(t, v.Settings), uint32(0)
	if len(v.Steps) > 0 {
		tick = v.Steps[0].Tick
	}
	plane := v.setUp(t, twin, &tick)
	for _, s := range v.Steps {
		tick = s.Tick
		if err := s.prepare(plane, twin); err != nil {
			t.Fatal(err)
		}
		s.want(twin)
		steps = append(steps, s)
	}
	return steps
}

// want sets what the twin makes of the packet.
func (s *Step) want(twin *Twin) {
	var out [][]byte
	s.Want, s.More = nil, nil
	if s.Reason, out, _ = twin.Forward(s.Way, s.Packet, s.Tick); len(out) > 0 {
		s.Want, s.More = out[0], out[1:]
	}
}

func (s Step) source() string {
	fields := []string{
		fmt.Sprintf("Way: %s, Tick: %d", [...]string{"In", "Out", "OutForwarded"}[s.Way], s.Tick),
		"Packet: " + frameSource(s.Packet), "Reason: forward." + goName(s.Reason.String()),
	}
	if s.Table != nil {
		fields = append(fields, "Table: "+tableSource(s.Table))
	}
	if s.EndAdoption {
		fields = append(fields, "EndAdoption: true")
	}
	if s.Conntrack != nil {
		fields = append(fields, connectionsSource(s.Conntrack))
	}
	if s.Want != nil {
		fields = append(fields, "Want: "+frameSource(s.Want))
	}
	if len(s.More) > 0 {
		var more []string
		for _, f := range s.More {
			more = append(more, frameSource(f))
		}
		fields = append(fields, "More: [][]byte{"+strings.Join(more, ", ")+"}")
	}
	return "{" + strings.Join(fields, ", ") + "}"
}

func frameSource(frame []byte) string { return fmt.Sprintf("unhex(\"%x\")", frame) }

func tableSource(t *lb.Table) string {
	var services []string
	for _, s := range t.Services() {
		services = append(services, serviceSource(*s))
	}
	return "table(" + strings.Join(services, ", ") + ")"
}

func serviceSource(s lb.Service) string {
	if s.Left {
		return "left(" + keySource(s.Key) + ")"
	}
	var pods, weights []string
	for _, b := range s.Backends {
		pod := b.Addr.String()
		if b.Draining {
			pod = "-" + pod
		}
		pods = append(pods, pod)
		weights = append(weights, fmt.Sprint(b.Weight))
	}
	code := fmt.Sprintf("svc(%s%s)", keySource(s.Key), quoted(pods))
	if strings.Trim(strings.Join(weights, ""), "1") != "" {
		code = fmt.Sprintf("weighted(%s, %s)", code, strings.Join(weights, ", "))
	}
	if s.TableSize != maglev.Sizes[0] {
		code = fmt.Sprintf("sized(%s, %d)", code, s.TableSize)
	}
	if s.Affinity != 0 {
		code = fmt.Sprintf("withAffinity(%s, %d*dataplane.Tick)", code, s.Affinity/dataplane.Tick)
	}
	if len(s.SourceRanges) > 0 {
		code = fmt.Sprintf("withRanges(%s%s)", code, quoted(s.SourceRanges))
	}
	if s.Policy == lb.Local {
		code = "local(" + code + ")"
	}
	return code
}

// keySource are the arguments of serviceKey.
func keySource(k lb.ServiceKey) string {
	return fmt.Sprintf("lb.%s, %q", strings.ToUpper(k.Proto.String()), netip.AddrPortFrom(k.VIP, k.Port).String())
}

// quoted are further arguments of a call.
func quoted[T any](items []T) string {
	var b strings.Builder
	for _, item := range items {
		fmt.Fprintf(&b, ", %q", fmt.Sprint(item))
	}
	return b.String()
}

// goName is the identifier of a reason that is named as in forward.Reason.String.
func goName(reason string) string {
	var b strings.Builder
	for word := range strings.SplitSeq(reason, "_") {
		switch word {
		case "ip", "vip", "mac", "icmp", "ttl":
			b.WriteString(strings.ToUpper(word))
		default:
			b.WriteString(strings.ToUpper(word[:1]) + word[1:])
		}
	}
	return b.String()
}

// settingsWith are node a's with so many flow buckets and these InternalIPs.
func settingsWith(flowBuckets int, internalIPs ...string) forward.Settings {
	s := SettingsOf(lb.Node{Addrs: addrs(internalIPs...)})
	s.FlowBuckets = flowBuckets
	return s
}

// sized gives the lookup table another size.
func sized(s lb.Service, slots int) lb.Service {
	s.TableSize = slots
	return s
}
