// SPDX-License-Identifier: Apache-2.0

package xdp

// mutation breaks the programs on purpose: in a file of bpf/, a text that is
// there once becomes another one.
type mutation struct {
	name, file string
	from, to   string
	always     bool // tried by every TestMutations
}

var mutations = []mutation{
	{
		name: "slot arithmetic", file: "service.h", always: true,
		from: `return (hash >> 32) * table_slots[table_size(table)] >> 32;`,
		to:   `return (hash & 0xffffffff) * table_slots[table_size(table)] >> 32;`,
	},
	{
		name: "affinity with the ports", file: "service.h",
		from: `return service->affinity_ticks ? flow_hash(pkt->src, 0) : pkt->hash;`,
		to:   `return pkt->hash;`,
	},
	{
		name: "new flows though all drain", file: "service.h",
		from: `(service->flags & LB_SERVICE_CLOSED && !pkt->related && packet_is_syn(pkt))`,
		to:   `0`,
	},
	{
		name: "new datagrams though all drain", file: "decide.h",
		from: `	if (begins && service->flags & LB_SERVICE_CLOSED)
		return refusal(pkt, service);
`,
		to: ``,
	},
	{
		name: "past that is skipped", file: "decide.h",
		from: `		if (i <= pkt->position)
			continue;
		if (!pkt->tags[i])
			break;`,
		to: `		if (i <= pkt->position || (i == 1 && pkt->tags[2]))
			continue;
		if (!pkt->tags[i])
			break;`,
	},
	{
		name: "martian without 224", file: "service.h",
		from: `first >= 224;`,
		to:   `first > 224;`,
	},
	{
		name: "hop limit stays", file: "encap.h",
		from: `		ip6->hop_limit--;
`,
		to: ``,
	},
	{
		name: "TTL without its checksum", file: "encap.h",
		from: `check = ip->check + bpf_htons(0x0100);`,
		to:   `check = ip->check;`,
	},
	{
		name: "UDP without a checksum", file: "forward_tc.h",
		from: `return pkt->proto == IPPROTO_UDP ? BPF_F_MARK_MANGLED_0 : 0;`,
		to:   `return 0;`,
	},
	{
		name: "checksum of the port", file: "forward_tc.h",
		from: `return bpf_l4_csum_replace(skb, l4_checksum_offset(pkt), from, to, l4_checksum_flags(pkt) | sizeof(to)) |`,
		to:   `return bpf_l4_csum_replace(skb, l4_checksum_offset(pkt), to, from, l4_checksum_flags(pkt) | sizeof(to)) |`,
	},
	{
		name: "MSS astride two words", file: "reply.h", always: true,
		from: `if ((offset - pkt->l4) & 1)`,
		to:   `if ((offset - pkt->l4) & 2)`,
	},
	{
		name: "clamp of the other family", file: "reply.h",
		from: `pkt->family == 4 ? mss_clamp_v4 : mss_clamp_v6)`,
		to:   `pkt->family == 4 ? mss_clamp_v4 : mss_clamp_v4)`,
	},
	{
		name: "flow of any protocol", file: "flow.h",
		from: `return flow->port == key->port && flow->proto == key->proto &&`,
		to:   `return flow->port == key->port &&`,
	},
	{
		name: "timeout a tick early", file: "flow.h",
		from: `return flow_idle(flow, now) > (__s32)flow_timeout(flow);`,
		to:   `return flow_idle(flow, now) >= (__s32)flow_timeout(flow);`,
	},
	{
		name: "lease a tick short", file: "flow.h",
		from: `return (__s32)(flow->until - now) < 0;`,
		to:   `return (__s32)(flow->until - now) <= 0;`,
	},
	{
		name: "youngest half-open goes", file: "flow.h",
		from: `idle > oldest)`,
		to:   `idle < oldest)`,
	},
	{
		name: "alias not followed", file: "flow.h",
		from: `	alias->seen = flow->seen;
`,
		to: ``,
	},
	{
		name: "window of the ACK", file: "flow.h",
		from: `pkt->ack - flow->isn - 1 < LB_FLOW_ACK_WINDOW;`,
		to:   `pkt->ack - flow->isn - 1 <= LB_FLOW_ACK_WINDOW;`,
	},
	{
		name: "closed by one FIN", file: "flow.h",
		from: `(flags & (LB_FLOW_POD_FIN | LB_FLOW_CLIENT_FIN)) == (LB_FLOW_POD_FIN | LB_FLOW_CLIENT_FIN);`,
		to:   `(flags & (LB_FLOW_POD_FIN | LB_FLOW_CLIENT_FIN)) != 0;`,
	},
	{
		name: "fragment of any protocol", file: "fragment.h",
		from: `	key->proto = pkt->proto;
`,
		to: ``,
	},
	{
		name: "fragment a tick short", file: "fragment.h",
		from: `> LB_FRAGMENT_TICKS)`,
		to:   `>= LB_FRAGMENT_TICKS)`,
	},
	{
		name: "MAC without the mark", file: "hash.h",
		from: ` | (__u64)pkt->related << 16;`,
		to:   `;`,
	},
	{
		name: "second key forgotten", file: "hash.h",
		from: `return has_other_key && option_mac(pkt, other_key0, other_key1) == pkt->mac;`,
		to:   `return 0;`,
	},
	{
		name: "quoted ports swapped", file: "packet.h", always: true,
		from: `	pkt->sport = l4->dest;
	pkt->dport = l4->source;
	pkt->proto = proto;`,
		to: `	pkt->sport = l4->source;
	pkt->dport = l4->dest;
	pkt->proto = proto;`,
	},
	{
		name: "quote that ends early", file: "packet.h",
		from: `at + sizeof(*l4) > end ||`,
		to:   `at + sizeof(*l4) > end + 1 ||`,
	},
	{
		name: "quoted checksum out of it", file: "forward_tc.h",
		from: `else if (pkt->quote_l4 + 18 <= end)`,
		to:   `else if (pkt->quote_l4 + 17 <= end)`,
	},
	{
		name: "extension headers' bytes", file: "packet.h",
		from: `walked > LB_EXTENSIONS_BYTES)`,
		to:   `walked >= LB_EXTENSIONS_BYTES)`,
	},
	{
		name: "extension headers' number", file: "packet.h",
		from: `if (i == LB_EXTENSIONS_MAX) {`,
		to:   `if (i == LB_EXTENSIONS_MAX - 1) {`,
	},
	{
		name: "second fragment header", file: "packet.h",
		from: `(kind == IPPROTO_FRAGMENT && fragmented) || `,
		to:   ``,
	},
	{
		name: "ECT(1) not carried in", file: "ecn.h",
		from: `(outer & LB_ECN_MASK) == LB_ECN_ECT1 && `,
		to:   `(outer & LB_ECN_MASK) == LB_ECN_MASK && `,
	},
	{
		name: "mark without a checksum", file: "forward_xdp.h",
		from: `ip->check = csum_update(ip->check, (__u64)bpf_htons(tos) + (__u16)~bpf_htons(ip->tos));`,
		to:   ``,
	},
	{
		name: "answer's MTU", file: "forward_tc.h",
		from: `pkt->mtu = node_mtu_now(node) - node_overhead(node);`,
		to:   `pkt->mtu = node_mtu_now(node) - LB_ENCAP_V4;`,
	},
	{
		name: "path MTU without a floor", file: "decide.h",
		from: `mtu = pkt->mtu < LB_PATH_MTU_MIN ? LB_PATH_MTU_MIN : pkt->mtu;`,
		to:   `mtu = pkt->mtu;`,
	},
	{
		name: "path MTU for ever", file: "service.h",
		from: `if (mtu && mtu < uplink_mtu && (__s32)(node->mtu_until - now) >= 0)`,
		to:   `if (mtu && mtu < uplink_mtu)`,
	},
	{
		name: "offset of pieces", file: "forward_tc.h",
		from: `fragment = (bpf_ntohs(ip.frag_off) & (LB_IP_MF | LB_IP_OFFSET)) + offset / 8;`,
		to:   `fragment = (bpf_ntohs(ip.frag_off) & LB_IP_MF) + offset / 8;`,
	},
	{
		name: "more after the last piece", file: "forward_tc.h",
		from: `		fragment |= LB_IP_MF;
`,
		to: `		fragment = offset ? fragment : fragment | LB_IP_MF;
`,
	},
	{
		name: "RST's acknowledgment", file: "answer.h",
		from: `payload += !!(pkt->tcp_flags & LB_TCP_SYN) + !!(pkt->tcp_flags & LB_TCP_FIN);`,
		to:   `payload += !!(pkt->tcp_flags & LB_TCP_SYN);`,
	},
	{
		name: "tokens without a limit", file: "answer.h",
		from: `bucket->tokens = tokens > LB_ANSWERS_BURST ? LB_ANSWERS_BURST : tokens;`,
		to:   `bucket->tokens = tokens;`,
	},
	{
		name: "connection that began here", file: "conntrack.h",
		from: `opts->dir != IP_CT_DIR_ORIGINAL || `,
		to:   ``,
	},
	{
		name: "connection to nobody else", file: "conntrack.h",
		from: ` || !(ct->status & IPS_DST_NAT))`,
		to:   `)`,
	},
	{
		name: "connection that ended", file: "conntrack.h",
		from: `ct->proto.tcp.state != TCP_CONNTRACK_TIME_WAIT && `,
		to:   ``,
	},
	{
		name: "adopted for ever", file: "service.h",
		from: `	else if (conntrack_knows(ctx, hook, pkt))`,
		to:   `	else if (flags & LB_SERVICE_ADOPTED)`,
	},
}
