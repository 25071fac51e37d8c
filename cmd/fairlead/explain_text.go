// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// explainLine is a step and what is to be said about it.
type explainLine struct{ step, text string }

// packetTitles name a kind of packet for people.
var packetTitles = map[string]string{
	askedSYN.name:      "A SYN, which begins a connection",
	askedACK.name:      "An ACK of a connection that exists",
	askedDatagram.name: "A datagram",
}

// printExplanation tells the steps that are the same for all packets once.
func printExplanation(w io.Writer, r explainReport) error {
	if len(r.Packets) == 0 {
		return errors.New("read explanation: it is about no packet")
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s → %s, as it comes to %s from the network\n", r.Protocol, r.Client, r.VIP, r.Node)
	if r.Tables != "synced" {
		fmt.Fprintf(&b, "The tables do not have all of the configuration yet (%s): this is what they say now.\n", r.Tables)
	}
	var stories [][]explainLine
	for _, p := range r.Packets {
		stories = append(stories, p.lines(r))
	}
	same := samePrefix(stories)
	b.WriteByte('\n')
	writeLines(&b, stories[0][:same])
	for i, story := range stories {
		if same == len(story) {
			break // nothing differs
		}
		fmt.Fprintf(&b, "\n%s:\n", packetTitles[r.Packets[i].Packet])
		writeLines(&b, story[same:])
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// samePrefix is how many lines all stories begin with; all or none of a single one.
func samePrefix(stories [][]explainLine) int {
	n := len(stories[0])
	for _, story := range stories[1:] {
		n = min(n, len(story))
		for i := range n {
			if story[i] != stories[0][i] {
				n = i
				break
			}
		}
	}
	return n
}

func writeLines(b *strings.Builder, lines []explainLine) {
	for _, line := range lines {
		fmt.Fprintf(b, "  %-13s  %s\n", line.step, line.text)
	}
}

// lines tell what the packet comes to, step by step.
func (p packetExplain) lines(r explainReport) []explainLine {
	lines := []explainLine{{"vip", fmt.Sprintf("%s is a VIP", r.VIP.Addr())}}
	add := func(step, format string, args ...any) {
		lines = append(lines, explainLine{step, fmt.Sprintf(format, args...)})
	}
	switch {
	case p.Service == nil:
		add("service", "none on %s: %s", r.key(), p.ports())
	case p.Service.Left:
		add("service", "%s", p.Service)
	default:
		add("service", "%s", p.Service)
		if p.Service.Adopted {
			add("conntrack", "%s", p.conntrack())
		}
		if p.Reason != "conntracked" {
			add("source range", "%s", p.ranges(r.Client.Addr()))
		}
	}
	if p.Table != nil {
		add("table", "%s", p.Table)
	}
	if p.Slot != nil {
		add("slot", "%d, by the hash of %s", p.Slot.Slot, p.Slot.By)
		add("home", "%s", p.Home)
		add("past", "%s", p.past())
		add("flow", "%s", p.record(r.Node))
		if p.Service.AffinitySeconds > 0 {
			add("affinity", "%s", p.remembered())
		}
	}
	if p.Tunnel != nil {
		add("encapsulation", "%s", p.Tunnel)
		add("next hop", "%s", p.NextHop)
	}
	add("verdict", "%s, %s: %s", p.Verdict, p.Reason, p.Meaning)
	switch {
	case p.Tunnel != nil:
		add("then", "%s decides: 'fairlead explain' there knows its connections", p.Tunnel.Node)
	case p.Deliver != nil:
		add("then", "%s", p.deliver(r.Client.Port()))
	case p.Reason == "refused" && r.Protocol == "tcp":
		add("then", "a RST goes back from the VIP")
	case p.Reason == "refused":
		add("then", "an ICMP port unreachable goes back from the VIP")
	}
	return lines
}

func (r explainReport) key() string { return r.Protocol + "/" + r.VIP.String() }

func (p packetExplain) ports() string {
	if len(p.VIPPorts) == 0 {
		return "the VIP has no ports"
	}
	return "the VIP has " + strings.Join(p.VIPPorts, ", ")
}

func (s *serviceExplain) String() string {
	name := s.Name
	if s.Key != name {
		name += " (" + s.Key + ")"
	}
	if s.Left {
		return name + ", left to kube-proxy"
	}
	affinity := "no affinity"
	if s.AffinitySeconds > 0 {
		affinity = fmt.Sprintf("clients stay on their Pod for %s", secondsText(s.AffinitySeconds))
	}
	return fmt.Sprintf("%s, externalTrafficPolicy %s, %s", name, s.Policy, affinity)
}

func (p packetExplain) conntrack() string {
	const asked = "the service was taken over from kube-proxy, so conntrack is asked: "
	if p.Reason == "conntracked" {
		return asked + "it knows the connection"
	}
	return asked + "it does not know the connection"
}

func (p packetExplain) ranges(client netip.Addr) string {
	if p.Service.SourceRanges == nil {
		return "every client is admitted"
	}
	i := slices.IndexFunc(p.Service.SourceRanges, func(r netip.Prefix) bool { return r.Contains(client) })
	if i >= 0 {
		return fmt.Sprintf("%s is in %s", client, p.Service.SourceRanges[i])
	}
	var all []string
	for _, r := range p.Service.SourceRanges {
		all = append(all, r.String())
	}
	return fmt.Sprintf("%s is in none of %s", client, strings.Join(all, ", "))
}

func (t *tableExplain) String() string {
	switch {
	case t.Slots == 0 && t.Elsewhere:
		return "none on this node: only other nodes have ready backends"
	case t.Slots == 0:
		return "none: the service has no backend for new connections"
	}
	text := fmt.Sprintf("%d slots, generation %d, hash %s", t.Slots, t.Generation, t.Hash)
	if t.Backends > 0 {
		text = fmt.Sprintf("%d slots for %s, generation %d, hash %s", t.Slots, count(t.Backends, "backend"), t.Generation, t.Hash)
	}
	if t.Closed {
		text += ", for old connections only: all backends drain"
	}
	if t.Transition {
		return text + fmt.Sprintf(", in transition: slots remember earlier homes for another %s", secondsText(t.PastSeconds))
	}
	return text + ", at rest"
}

func (t targetExplain) String() string {
	if !t.Address.IsValid() {
		return "a backend that is gone"
	}
	where := t.Node
	if t.Local {
		where += ", this node"
	}
	text := fmt.Sprintf("%s on %s", t.Address, where)
	if t.State != "ready" {
		text += " (" + t.State + ")"
	}
	return text
}

func (p packetExplain) past() string {
	if len(p.Past) == 0 {
		return "none: the slot remembers no earlier home"
	}
	var all []string
	for _, t := range p.Past {
		all = append(all, t.String())
	}
	return "before that " + strings.Join(all, ", before that ")
}

// record tells about the connection's record, which the packet does not come
// to when its home is elsewhere.
func (p packetExplain) record(node string) string {
	if p.Flow == nil {
		return fmt.Sprintf("%s has no record of this connection", node)
	}
	text := p.Flow.String()
	switch {
	case !p.Home.Local:
		text += "; the packet goes to its home before anybody looks at that"
	case p.Flow.Match == "unfit":
		text += "; this ACK does not show that the client saw the Pod's SYN-ACK, so the connection may be another node's"
	case p.Flow.Match == "foreign":
		text += "; a SYN after its end begins another one"
	}
	return text
}

func (f *flowExplain) String() string {
	switch f.Kind {
	case "redirect":
		return fmt.Sprintf("registered by %s as its own for another %s", f.Node, secondsText(f.LeftSeconds))
	case "affinity":
		return fmt.Sprintf("the client is remembered for %s for another %s", f.Backend, secondsText(f.LeftSeconds))
	}
	text := fmt.Sprintf("%s, on %s, idle %s", f.State, f.Backend, secondsText(f.IdleSeconds))
	if len(f.Flags) > 0 {
		text += ", " + strings.Join(f.Flags, ", ")
	}
	return text
}

func (p packetExplain) remembered() string {
	if p.Affinity == nil {
		return "the client is not remembered"
	}
	return p.Affinity.String()
}

func (t *tunnelExplain) String() string {
	mtu := fmt.Sprintf("the MTU of %d", t.MTU)
	if t.LearnedSeconds != nil {
		mtu = fmt.Sprintf("the path MTU of %d, learned from a router and valid for another %s,", t.MTU, secondsText(*t.LearnedSeconds))
	}
	return fmt.Sprintf("Geneve from %s to %s (%s): %d bytes more, so of %s a packet may have %d",
		t.Source, t.Dest, t.Node, t.Overhead, mtu, t.Largest)
}

func (h *hopExplain) String() string {
	if h.Interface == "" {
		return "not found yet: the kernel's stack finds the way"
	}
	state := "never confirmed"
	if h.AgeSeconds >= 0 {
		state = fmt.Sprintf("confirmed %s ago", time.Duration(h.AgeSeconds*float64(time.Second)).Round(100*time.Millisecond))
	}
	text := strings.TrimSpace(fmt.Sprintf("%s by %s, %s", h.MAC, h.Interface, state))
	switch {
	case !h.Fresh:
		return text + ": too long, so the kernel's stack finds the way"
	case !strings.Contains(h.XDPMode, "native"):
		return text + "; outside of native mode the kernel's stack finds the way"
	}
	return text
}

func (p packetExplain) deliver(port uint16) string {
	text := fmt.Sprintf("%s gets it from the client's address and port", p.Deliver.Pod)
	if p.Deliver.PodPort != port {
		text = fmt.Sprintf("%s gets it from the client's address, but port %d: %d reaches this Pod by another service already",
			p.Deliver.Pod, p.Deliver.PodPort, port)
	}
	if p.Deliver.Record {
		return text + ", and a record is made"
	}
	return text
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func secondsText(n int64) string { return (time.Duration(n) * time.Second).String() }
