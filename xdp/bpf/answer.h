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
	__be16 unused[2];
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
	pkt->l4 = pkt->l3 + ip_header_len(pkt);
	pseudo = fold64(pseudo_sum(pkt, IPPROTO_TCP, sizeof(tcp)));
	full = ~fold64(pseudo + (__u64)(__u32)bpf_csum_diff(NULL, 0, (__be32 *)&tcp, sizeof(tcp), 0));
	/* A partial checksum of the client's packet is still due to be completed
	 * when ours leaves, and then wants the pseudo header's sum: the helper
	 * knows, and only replaces that sum where it is not.
	 */
	tcp.check = pseudo;
	return bpf_skb_change_tail(skb, pkt->l4 + sizeof(tcp), 0) ||
	       tc_store_ip(skb, pkt, IPPROTO_TCP, sizeof(tcp)) ||
	       bpf_skb_store_bytes(skb, pkt->l4, &tcp, sizeof(tcp), 0) ||
	       bpf_l4_csum_replace(skb, pkt->l4 + 16, full, pseudo, sizeof(full));
}

/* ICMP 3/3 and ICMPv6 1/4, with the packet's IP header and 8 bytes more. */
static __always_inline long tc_unreachable(struct __sk_buff *skb, struct lb_pkt *pkt)
{
	struct lb_icmp_error icmp = {
		.type = pkt->family == 4 ? 3 : 1,
		.code = pkt->family == 4 ? 3 : 4,
	};
	__u8 quote[sizeof(struct ipv6hdr) + 8] = {};
	__u32 quoted = ip_header_len(pkt) + 8, len = sizeof(icmp) + quoted;
	__u8 proto = pkt->family == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6;
	__u64 sum = pkt->family == 4 ? 0 : pseudo_sum(pkt, proto, len);
	__u16 pseudo = fold64(sum);
	long err;

	/* IPv4 options are left out of the quote: the ports must be where a reader looks. */
	if (pkt->family == 4)
		err = bpf_skb_load_bytes(skb, pkt->l3, quote, sizeof(struct iphdr)) ||
		      bpf_skb_load_bytes(skb, pkt->l4, quote + sizeof(struct iphdr), 8);
	else
		err = bpf_skb_load_bytes(skb, pkt->l3, quote, sizeof(quote));
	if (err)
		return err;
	if (pkt->family == 4 && pkt->l4 - pkt->l3 != sizeof(struct iphdr)) {
		struct iphdr *ip = (struct iphdr *)quote;

		ip->ihl = 5;
		ip->check = ipv4_checksum(ip);
	}
	sum += (__u32)bpf_csum_diff(NULL, 0, (__be32 *)&icmp, sizeof(icmp), 0);
	sum += (__u32)bpf_csum_diff(NULL, 0, (__be32 *)quote, sizeof(quote), 0);
	icmp.check = ~fold64(sum);
	/* A partial checksum of the client's packet is still due to be completed
	 * when ours leaves: the complement of the sum over all then replaces the
	 * last two bytes. All stays right if the pseudo header's sum was there. The
	 * helper knows, and makes them 0 where nothing is due.
	 */
	icmp.unused[1] = pseudo;
	pkt->l4 = pkt->l3 + ip_header_len(pkt);
	if (bpf_skb_change_tail(skb, pkt->l4 + len, 0) || tc_store_ip(skb, pkt, proto, len) ||
	    bpf_skb_store_bytes(skb, pkt->l4, &icmp, sizeof(icmp), 0) ||
	    bpf_l4_csum_replace(skb, pkt->l4 + 6, (__u16)~pseudo, 0, sizeof(pseudo)))
		return -1;
	if (pkt->family == 4)
		return bpf_skb_store_bytes(skb, pkt->l4 + sizeof(icmp), quote, sizeof(struct iphdr) + 8, 0);
	return bpf_skb_store_bytes(skb, pkt->l4 + sizeof(icmp), quote, sizeof(quote), 0);
}

static __always_inline long tc_echo(struct __sk_buff *skb, const struct lb_pkt *pkt)
{
	__be16 from, to;
	__u8 type = pkt->family == 4 ? 0 : LB_ICMPV6_ECHO + 1, ttl[2], answer_ttl = LB_ANSWER_TTL;

	from = bpf_htons((__u16)pkt->icmp_type << 8);
	to = bpf_htons((__u16)type << 8);
	if (bpf_l4_csum_replace(skb, pkt->l4 + 2, from, to, sizeof(to)) ||
	    bpf_skb_store_bytes(skb, pkt->l4, &type, sizeof(type), 0))
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

static __noinline int tc_answer(struct __sk_buff *skb, struct lb_pkt *pkt, enum lb_reason reason)
{
	long err;

	if (reason == LB_R_REFUSED && ((pkt->proto == IPPROTO_TCP && pkt->tcp_flags & LB_TCP_RST) || !answer_allowed()))
		return tc_drop(pkt, LB_R_RATE);
	if (reason == LB_R_ECHO)
		err = tc_echo(skb, pkt);
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
