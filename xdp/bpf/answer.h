/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What a VIP says itself: echo replies (RFC 792, 4443), a RST (RFC 9293) or
 * port unreachable where a service has no backends. TC sends them, so that
 * whatever the sender's device left undone in the packet ends up right.
 */
#ifndef FAIRLEAD_ANSWER_H
#define FAIRLEAD_ANSWER_H

#include "forward_tc.h"

#define LB_ANSWER_TTL 64

struct lb_icmp_error {
	__u8 type;
	__u8 code;
	__be16 check;
	__be32 rest; /* the MTU, or 0 */
};

/* One token an answer, so many a tick, for each CPU. */
static __always_inline int answer_allowed(void)
{
	__u32 zero = 0, now = tick_now();
	struct lb_bucket *bucket = bpf_map_lookup_elem(&answer_tokens, &zero);
	__u64 tokens;

	if (!bucket)
		return 0;
	if (bucket->tick != now) {
		tokens = bucket->tokens + (__u64)(now - bucket->tick) * LB_ANSWERS_PER_TICK;
		bucket->tokens = tokens > LB_ANSWERS_BURST ? LB_ANSWERS_BURST : tokens;
		bucket->tick = now;
	}
	if (!bucket->tokens)
		return 0;
	bucket->tokens--;
	return 1;
}

static __always_inline long tc_swap_macs(struct __sk_buff *skb)
{
	__u8 macs[LB_MACS], swapped[LB_MACS];

	if (bpf_skb_load_bytes(skb, 0, macs, sizeof(macs)))
		return -1;
	__builtin_memcpy(swapped, macs + ETH_ALEN, ETH_ALEN);
	__builtin_memcpy(swapped + ETH_ALEN, macs, ETH_ALEN);
	return bpf_skb_store_bytes(skb, 0, swapped, sizeof(swapped), 0);
}

/* An IP header from the VIP to the client. */
static __always_inline long tc_store_ip(struct __sk_buff *skb, const struct lb_pkt *pkt, __u8 proto, __u32 payload)
{
	if (pkt->family == 4) {
		struct iphdr ip = {
			.version = 4,
			.ihl = 5,
			.tot_len = bpf_htons(sizeof(ip) + payload),
			.frag_off = bpf_htons(0x4000),
			.ttl = LB_ANSWER_TTL,
			.protocol = proto,
			.saddr = addr_v4(pkt->dst),
			.daddr = addr_v4(pkt->src),
		};

		ip.check = ipv4_checksum(&ip);
		return bpf_skb_store_bytes(skb, pkt->l3, &ip, sizeof(ip), 0);
	} else {
		struct ipv6hdr ip6 = {
			.version = 6,
			.payload_len = bpf_htons(payload),
			.nexthdr = proto,
			.hop_limit = LB_ANSWER_TTL,
		};

		__builtin_memcpy(&ip6.saddr, pkt->dst, 16);
		__builtin_memcpy(&ip6.daddr, pkt->src, 16);
		return bpf_skb_store_bytes(skb, pkt->l3, &ip6, sizeof(ip6), 0);
	}
}

static __always_inline __u32 ip_header_len(const struct lb_pkt *pkt)
{
	return pkt->family == 4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
}

/* RFC 9293 section 3.10.7.1. */
static __always_inline long tc_rst(struct __sk_buff *skb, struct lb_pkt *pkt)
{
	__u32 payload = pkt->len - (pkt->l4 - pkt->l3) - pkt->tcp_words * 4;
	int extra = pkt->l4 - pkt->l3 - ip_header_len(pkt);
	struct tcphdr tcp = {
		.source = pkt->dport,
		.dest = pkt->sport,
		.doff = sizeof(tcp) / 4,
		.rst = 1,
	};
	__u16 pseudo, full;

	if (pkt->tcp_flags & LB_TCP_ACK) {
		tcp.seq = bpf_htonl(pkt->ack);
	} else {
		payload += !!(pkt->tcp_flags & LB_TCP_SYN) + !!(pkt->tcp_flags & LB_TCP_FIN);
		tcp.ack_seq = bpf_htonl(pkt->seq + payload);
		tcp.ack = 1;
	}
	pseudo = fold64(pseudo_sum(pkt, IPPROTO_TCP, sizeof(tcp)));
	full = ~fold64(pseudo + (__u64)(__u32)bpf_csum_diff(NULL, 0, (__be32 *)&tcp, sizeof(tcp), 0));
	/* A partial checksum of the client's packet is still due to be completed
	 * when ours leaves, and then wants the pseudo header's sum: the helper
	 * knows, and only replaces that sum where it is not.
	 */
	tcp.check = pseudo;
	if (bpf_skb_change_tail(skb, pkt->l4 + sizeof(tcp), 0))
		return -1;
	/* Options and extension headers go; the TCP header stays where it is in memory. */
	if (extra && bpf_skb_adjust_room(skb, -extra, BPF_ADJ_ROOM_NET, 0))
		return -1;
	pkt->l4 -= extra;
	return tc_store_ip(skb, pkt, IPPROTO_TCP, sizeof(tcp)) ||
	       bpf_skb_store_bytes(skb, pkt->l4, &tcp, sizeof(tcp), 0) ||
	       bpf_l4_csum_replace(skb, pkt->l4 + 16, full, pseudo, sizeof(full));
}

/* The sum of the first len bytes from the IP header on, at most LB_QUOTE_MAX. */
static __noinline __s64 tc_sum(struct __sk_buff *skb, const struct lb_pkt *pkt, __u32 len)
{
	struct lb_scratch *room = scratch_get();

	if (!room || !len || len > LB_QUOTE_MAX)
		return -1;
	__builtin_memset(room->quote, 0, LB_QUOTE_MAX);
	if (bpf_skb_load_bytes(skb, pkt->l3, room->quote, len))
		return -1;
	return (__u32)bpf_csum_diff(NULL, 0, (__be32 *)room->quote, LB_QUOTE_MAX, 0);
}

/* An ICMP error (RFC 792, 1191, 4443) about the packet, which stays behind it
 * as the quote, cut behind the header of TCP or UDP.
 */
static __noinline long tc_icmp_error(struct __sk_buff *skb, struct lb_pkt *pkt, struct lb_icmp_error *icmp)
{
	__u32 headers = pkt->l4 - pkt->l3, quoted = headers + (pkt->proto == IPPROTO_TCP ? sizeof(struct tcphdr) : 8);
	__u32 len = sizeof(*icmp) + quoted, room = ip_header_len(pkt) + sizeof(*icmp);
	__u8 proto = pkt->family == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6, macs[sizeof(struct ethhdr) + 2 * LB_TAGS_MAX * LB_TAG_LEN];
	__u32 front = sizeof(struct ethhdr) + (pkt->tags_len & 0xc);
	__u16 check;
	__s64 sum;

	/* A partial checksum in the quote is still due to be completed when the
	 * answer leaves. From the L4 header on, the quote will then sum up to the
	 * complement of what is in that field now.
	 */
	if (!pkt->fragment && tc_checksum_is_partial(skb, pkt)) {
		sum = tc_sum(skb, pkt, headers);
		if (sum < 0 || bpf_skb_load_bytes(skb, l4_checksum_offset(pkt), &check, sizeof(check)))
			return -1;
		sum += (__u16)~check;
	} else {
		sum = tc_sum(skb, pkt, quoted);
		if (sum < 0)
			return -1;
	}
	if (pkt->family == 6)
		sum += pseudo_sum(pkt, proto, len);
	icmp->check = 0;
	icmp->check = ~fold64(sum + (__u32)bpf_csum_diff(NULL, 0, (__be32 *)icmp, sizeof(*icmp), 0));
	if (bpf_skb_load_bytes(skb, 0, macs, front) || bpf_skb_change_tail(skb, pkt->l4 + quoted - headers, 0) ||
	    bpf_skb_change_head(skb, room, 0) || bpf_skb_store_bytes(skb, 0, macs, front, 0) ||
	    tc_store_ip(skb, pkt, proto, len))
		return -1;
	return bpf_skb_store_bytes(skb, pkt->l3 + ip_header_len(pkt), icmp, sizeof(*icmp), 0);
}

static __always_inline long tc_unreachable(struct __sk_buff *skb, struct lb_pkt *pkt)
{
	struct lb_icmp_error icmp = {
		.type = pkt->family == 4 ? LB_ICMP_UNREACHABLE : LB_ICMPV6_UNREACHABLE,
		.code = pkt->family == 4 ? LB_ICMP_CODE_PORT : LB_ICMPV6_CODE_PORT,
	};

	return tc_icmp_error(skb, pkt, &icmp);
}

static __always_inline long tc_too_big(struct __sk_buff *skb, struct lb_pkt *pkt)
{
	struct lb_icmp_error icmp = {
		.type = pkt->family == 4 ? LB_ICMP_UNREACHABLE : LB_ICMPV6_TOO_BIG,
		.code = pkt->family == 4 ? LB_ICMP_CODE_TOO_BIG : 0,
		.rest = bpf_htonl(pkt->mtu),
	};

	return tc_icmp_error(skb, pkt, &icmp);
}

static __always_inline long tc_echo(struct __sk_buff *skb, const struct lb_pkt *pkt)
{
	__be16 from, to;
	__u8 type = pkt->family == 4 ? LB_ICMP_ECHO_REPLY : LB_ICMPV6_ECHO_REPLY, ttl[2], answer_ttl = LB_ANSWER_TTL;

	from = bpf_htons((__u16)pkt->icmp_type << 8);
	to = bpf_htons((__u16)type << 8);
	if (pkt->fragment != LB_FRAGMENT_LATER && (bpf_l4_csum_replace(skb, pkt->l4 + 2, from, to, sizeof(to)) ||
						   bpf_skb_store_bytes(skb, pkt->l4, &type, sizeof(type), 0)))
		return -1;
	if (pkt->family == 4) {
		__be32 src = addr_v4(pkt->dst), dst = addr_v4(pkt->src);

		if (bpf_skb_load_bytes(skb, pkt->l3 + 8, ttl, sizeof(ttl)))
			return -1;
		from = bpf_htons((__u16)ttl[0] << 8 | ttl[1]);
		to = bpf_htons((__u16)answer_ttl << 8 | ttl[1]);
		return bpf_l3_csum_replace(skb, pkt->l3 + 10, from, to, sizeof(to)) |
		       bpf_skb_store_bytes(skb, pkt->l3 + 8, &answer_ttl, 1, 0) |
		       bpf_skb_store_bytes(skb, pkt->l3 + 12, &src, sizeof(src), 0) |
		       bpf_skb_store_bytes(skb, pkt->l3 + 16, &dst, sizeof(dst), 0);
	}
	return bpf_skb_store_bytes(skb, pkt->l3 + 7, &answer_ttl, 1, 0) |
	       bpf_skb_store_bytes(skb, pkt->l3 + 8, pkt->dst, 16, 0) |
	       bpf_skb_store_bytes(skb, pkt->l3 + 24, pkt->src, 16, 0);
}

/* Everything but echo has a rate. A RST is not answered, nor a fragment that is not the first. */
static __always_inline int tc_may_answer(const struct lb_pkt *pkt, enum lb_reason reason)
{
	if (reason == LB_R_ECHO)
		return 1;
	if (pkt->fragment == LB_FRAGMENT_LATER ||
	    (reason == LB_R_REFUSED && pkt->proto == IPPROTO_TCP && pkt->tcp_flags & LB_TCP_RST))
		return 0;
	return answer_allowed();
}

static __noinline int tc_answer(struct __sk_buff *skb, struct lb_pkt *pkt, enum lb_reason reason)
{
	long err;

	if (!tc_may_answer(pkt, reason))
		return tc_drop(pkt, LB_R_RATE);
	if (reason == LB_R_ECHO)
		err = tc_echo(skb, pkt);
	else if (reason == LB_R_PACKET_TOO_BIG)
		err = tc_too_big(skb, pkt);
	else if (pkt->proto == IPPROTO_TCP)
		err = tc_rst(skb, pkt);
	else
		err = tc_unreachable(skb, pkt);
	if (err || tc_swap_macs(skb))
		return tc_drop(pkt, LB_R_ERROR);
	count(pkt, reason);
	return bpf_redirect(skb->ifindex, 0);
}

#endif
