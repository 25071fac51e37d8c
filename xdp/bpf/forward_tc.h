/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What TC does with a decision, with the helpers that keep partial checksums
 * and 64 KB segments right.
 */
#ifndef FAIRLEAD_FORWARD_TC_H
#define FAIRLEAD_FORWARD_TC_H

#include "compat.h"
#include "encap.h"

static __noinline int tc_answer(struct __sk_buff *skb, struct lb_pkt *pkt, enum lb_reason reason);

#define LB_MACS 12 /* bytes of both MAC addresses */

/* The mark of a piece on its way in again; its low byte says which piece. */
#define LB_MARK_PIECE 0xfa1d0000
#define LB_PIECES_MAX 255
#define LB_CUT_MAX 4088	 /* bytes that adjust_room takes off at once, a multiple of 8 */
#define LB_PIECE_CUTS 4

static __always_inline int tc_drop(const struct lb_pkt *pkt, enum lb_reason reason)
{
	count(pkt, reason);
	return LB_TCX_DROP;
}

static __always_inline __u64 l4_checksum_flags(const struct lb_pkt *pkt)
{
	/* A UDP checksum of 0 says that there is none, and stays. */
	return pkt->proto == IPPROTO_UDP ? BPF_F_MARK_MANGLED_0 : 0;
}

static __always_inline __u32 l4_checksum_offset(const struct lb_pkt *pkt)
{
	return pkt->l4 + (pkt->proto == IPPROTO_TCP ? 16 : 6);
}

/* Sets an address of the packet, with both checksums. A later fragment has no L4 header. */
static __always_inline long tc_set_addr(struct __sk_buff *skb, const struct lb_pkt *pkt, const __u64 *from,
					const __u64 *to, int destination)
{
	__u64 flags = l4_checksum_flags(pkt) | BPF_F_PSEUDO_HDR;
	__u32 check = l4_checksum_offset(pkt);
	long err = 0;

	if (pkt->family == 4) {
		__be32 old = addr_v4(from), new = addr_v4(to);

		if (pkt->fragment != LB_FRAGMENT_LATER)
			err = bpf_l4_csum_replace(skb, check, old, new, flags | sizeof(new));
		err |= bpf_l3_csum_replace(skb, pkt->l3 + 10, old, new, sizeof(new));
		return err | bpf_skb_store_bytes(skb, pkt->l3 + (destination ? 16 : 12), &new, sizeof(new), 0);
	}
	if (csum_ipv6_flag)
		flags |= LB_F_IPV6;
	if (pkt->fragment != LB_FRAGMENT_LATER)
		err = bpf_l4_csum_replace(skb, check, 0, bpf_csum_diff((__be32 *)from, 16, (__be32 *)to, 16, 0), flags);
	return err | bpf_skb_store_bytes(skb, pkt->l3 + (destination ? 24 : 8), to, 16, 0);
}

static __always_inline long tc_set_port(struct __sk_buff *skb, const struct lb_pkt *pkt, __be16 from, __be16 to,
					int destination)
{
	if (from == to || pkt->fragment == LB_FRAGMENT_LATER)
		return 0;
	return bpf_l4_csum_replace(skb, l4_checksum_offset(pkt), from, to, l4_checksum_flags(pkt) | sizeof(to)) |
	       bpf_skb_store_bytes(skb, pkt->l4 + (destination ? 2 : 0), &to, sizeof(to), 0);
}

/* A change of what an ICMP error says of a flow: the address of one end, inside
 * and outside, and the ports in the quoted packet.
 */
struct lb_related {
	__u64 to[2];	 /* the new address of the end that changes */
	__u32 outside;	 /* offset of that address in the outer IP header, from its start */
	__u32 inside;	 /* the same in the quoted one */
	__be16 ports[2]; /* of the quoted packet from now on */
};

/* The sum of the changes from old to new, len bytes each, on top of diff. */
static __always_inline __u64 diff_add(__u64 diff, void *old, void *new, __u32 len)
{
	return (__u32)bpf_csum_diff(old, len, new, len, 0) + diff;
}

/* Updates a checksum of the quoted packet, and returns what that changes. */
static __always_inline __u64 tc_quoted_checksum(struct __sk_buff *skb, __u32 offset, __u64 diff, int udp)
{
	__u16 old, new;

	if (bpf_skb_load_bytes(skb, offset, &old, sizeof(old)) || (udp && !old))
		return 0;
	new = csum_update(old, diff);
	if (udp && !new)
		new = 0xffff;
	bpf_skb_store_bytes(skb, offset, &new, sizeof(new), 0);
	return (__u64)(__u16)~old + new;
}

/* Both checksums of the quoted packet change with it, its own and, where so
 * much is quoted, that of TCP or UDP; the ICMP checksum covers all of that, and
 * ICMPv6's the outer addresses too.
 */
static __noinline long tc_set_related(struct __sk_buff *skb, const struct lb_pkt *pkt, struct lb_related *to)
{
	__u32 addr_len = pkt->family == 4 ? 4 : 16, end = pkt->l3 + pkt->len;
	__u32 inside = pkt->quote + to->inside, outside = pkt->l3 + to->outside;
	void *new = pkt->family == 4 ? (void *)to->to + 12 : (void *)to->to;
	__u64 old[2] = {}, flags = BPF_F_PSEUDO_HDR, diff, total;
	__be16 ports[2];
	long err;

	if (pkt->family == 4) {
		err = bpf_skb_load_bytes(skb, inside, old, 4);
		diff = diff_add(0, old, new, 4);
		err |= bpf_skb_store_bytes(skb, inside, new, 4, 0);
		total = diff + tc_quoted_checksum(skb, pkt->quote + 10, diff, 0);
	} else {
		err = bpf_skb_load_bytes(skb, inside, old, 16);
		diff = diff_add(0, old, new, 16);
		err |= bpf_skb_store_bytes(skb, inside, new, 16, 0);
		total = diff;
	}
	err |= bpf_skb_load_bytes(skb, pkt->quote_l4, ports, sizeof(ports));
	diff = diff_add(diff, ports, to->ports, sizeof(ports));
	total = diff_add(total, ports, to->ports, sizeof(ports));
	err |= bpf_skb_store_bytes(skb, pkt->quote_l4, to->ports, sizeof(ports), 0);
	if (pkt->proto == IPPROTO_UDP)
		total += tc_quoted_checksum(skb, pkt->quote_l4 + 6, diff, 1);
	else if (pkt->quote_l4 + 18 <= end)
		total += tc_quoted_checksum(skb, pkt->quote_l4 + 16, diff, 0);
	total = (total & 0xffffffff) + (total >> 32);
	err |= bpf_l4_csum_replace(skb, pkt->l4 + 2, 0, (__u32)total + (total >> 32), 0);
	if (err)
		return err;
	if (pkt->family == 4) {
		err = bpf_skb_load_bytes(skb, outside, old, 4);
		err |= bpf_l3_csum_replace(skb, pkt->l3 + 10, *(__u32 *)old, *(__u32 *)new, 4);
		return err | bpf_skb_store_bytes(skb, outside, new, 4, 0);
	}
	if (csum_ipv6_flag)
		flags |= LB_F_IPV6;
	err = bpf_skb_load_bytes(skb, outside, old, 16);
	err |= bpf_l4_csum_replace(skb, pkt->l4 + 2, 0, bpf_csum_diff((__be32 *)old, 16, (__be32 *)new, 16, 0), flags);
	return err | bpf_skb_store_bytes(skb, outside, new, addr_len, 0);
}

/* Takes VLAN tags off: a packet that goes to another node goes by that node's
 * route. The first tag is mostly not in the frame, but beside it.
 */
static __noinline long tc_untag(struct __sk_buff *skb, struct lb_pkt *pkt)
{
	__u32 len = pkt->tags_len;
	long err;

	for (int i = 0; i <= LB_TAGS_MAX; i++) {
		if (!skb->vlan_present && skb->protocol != bpf_htons(ETH_P_8021Q) &&
		    skb->protocol != bpf_htons(ETH_P_8021AD))
			break;
		err = bpf_skb_vlan_pop(skb);
		if (err)
			return err;
	}
	pkt->l3 -= len;
	pkt->l4 -= len;
	pkt->quote -= len;
	pkt->quote_l4 -= len;
	pkt->tags_len = 0;
	return 0;
}

static __always_inline int tc_redirect_to_node(struct __sk_buff *skb, const struct lb_pkt *pkt,
					       const struct lb_node *node, enum lb_reason reason)
{
	count(pkt, reason);
	return bpf_redirect_neigh(node->ifindex ? node->ifindex : skb->ifindex, NULL, 0, 0);
}

static __noinline long tc_add_outer(struct __sk_buff *skb, const struct lb_pkt *pkt, const struct lb_node *node)
{
	__u64 flags = BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L4_UDP;
	__be16 proto;

	if (node_is_v4(node)) {
		struct lb_outer_v4 outer = {};

		if (bpf_skb_adjust_room(skb, sizeof(outer), BPF_ADJ_ROOM_MAC, flags | BPF_F_ADJ_ROOM_ENCAP_L3_IPV4))
			return -1;
		outer_v4_fill(&outer, pkt, node);
		proto = bpf_htons(ETH_P_IP);
		return bpf_skb_store_bytes(skb, LB_MACS, &proto, sizeof(proto), 0) |
		       bpf_skb_store_bytes(skb, sizeof(struct ethhdr), &outer, sizeof(outer), 0);
	} else {
		struct lb_outer_v6 outer = {};

		if (bpf_skb_adjust_room(skb, sizeof(outer), BPF_ADJ_ROOM_MAC, flags | BPF_F_ADJ_ROOM_ENCAP_L3_IPV6))
			return -1;
		outer_v6_fill(&outer, pkt, node);
		proto = bpf_htons(ETH_P_IPV6);
		return bpf_skb_store_bytes(skb, LB_MACS, &proto, sizeof(proto), 0) |
		       bpf_skb_store_bytes(skb, sizeof(struct ethhdr), &outer, sizeof(outer), 0);
	}
}

/* Has the sender left the L4 checksum to the device? The kernel does not say,
 * but its helper leaves such a checksum alone.
 */
static __noinline int tc_checksum_is_partial(struct __sk_buff *skb, const struct lb_pkt *pkt)
{
	__u32 offset = l4_checksum_offset(pkt);
	__u16 before, after;

	if (bpf_skb_load_bytes(skb, offset, &before, sizeof(before)) ||
	    bpf_l4_csum_replace(skb, offset, 0, bpf_htons(1), sizeof(before)) ||
	    bpf_skb_load_bytes(skb, offset, &after, sizeof(after)))
		return 0;
	bpf_skb_store_bytes(skb, offset, &before, sizeof(before), 0);
	return before == after;
}

/* May the packet be cut in pieces on its way? One with a partial checksum would
 * get that completed for the first piece alone; its sender is a kernel that
 * heeds our word about the MTU.
 */
static __always_inline int tc_may_fragment(struct __sk_buff *skb, const struct lb_pkt *pkt)
{
	if (pkt->dont_fragment || pkt->related || skb->gso_size || pkt->l4 - pkt->l3 != sizeof(struct iphdr))
		return 0;
	return pkt->fragment || !tc_checksum_is_partial(skb, pkt);
}

/* Makes the packet one piece of itself, at most room bytes long (RFC 791). The
 * next one is cut from a clone, which comes in again with a mark that says which
 * it is. Returns an enum lb_reason.
 */
static __noinline int tc_fragment(struct __sk_buff *skb, struct lb_pkt *pkt, __u32 room)
{
	__u32 chunk = (room - sizeof(struct iphdr)) & ~7U, total = pkt->len - sizeof(struct iphdr);
	__u32 piece = pkt->piece, offset = piece * chunk, left = total - offset, cut;
	__u16 fragment;
	struct iphdr ip;

	if (!chunk || offset >= total || offset > LB_PIECE_CUTS * LB_CUT_MAX)
		return LB_R_TOO_BIG;
	if (tc_untag(skb, pkt) || bpf_skb_load_bytes(skb, pkt->l3, &ip, sizeof(ip)))
		return LB_R_ERROR;
	fragment = (bpf_ntohs(ip.frag_off) & (LB_IP_MF | LB_IP_OFFSET)) + offset / 8;
	if (left > chunk) {
		skb->mark = LB_MARK_PIECE | (piece + 1);
		if (piece >= LB_PIECES_MAX || bpf_clone_redirect(skb, skb->ifindex, BPF_F_INGRESS))
			return LB_R_ERROR;
		skb->mark = 0;
		left = chunk;
		fragment |= LB_IP_MF;
	}
	for (int i = 0; i < LB_PIECE_CUTS && offset; i++) {
		cut = offset > LB_CUT_MAX ? LB_CUT_MAX : offset;
		if (bpf_skb_adjust_room(skb, -(int)cut, BPF_ADJ_ROOM_NET, 0))
			return LB_R_ERROR;
		offset -= cut;
	}
	pkt->len = sizeof(ip) + left;
	ip.tot_len = bpf_htons(pkt->len);
	ip.frag_off = bpf_htons(fragment);
	ip.check = ipv4_checksum(&ip);
	if (bpf_skb_change_tail(skb, pkt->l3 + pkt->len, 0) ||
	    bpf_skb_store_bytes(skb, pkt->l3, &ip, sizeof(ip), 0))
		return LB_R_ERROR;
	return LB_R_NONE;
}

/* How long the IP packet is when it crosses the wire: GSO packets go in segments. */
static __always_inline __u32 tc_wire_len(struct __sk_buff *skb, const struct lb_pkt *pkt)
{
	__u32 l4_header = pkt->proto == IPPROTO_TCP ? pkt->tcp_words * 4 : sizeof(struct udphdr);

	return skb->gso_size ? pkt->l4 - pkt->l3 + l4_header + skb->gso_size : pkt->len;
}

static __noinline int tc_encap(struct __sk_buff *skb, struct lb_pkt *pkt, enum lb_reason reason)
{
	struct lb_node *node = node_find(pkt, 0);
	enum lb_reason obstacle = encap_check(pkt, node, tc_wire_len(skb, pkt));
	void *data, *data_end;

	if (obstacle == LB_R_PACKET_TOO_BIG && node) {
		pkt->mtu = node_mtu_now(node) - node_overhead(node);
		if (tc_may_fragment(skb, pkt))
			obstacle = tc_fragment(skb, pkt, pkt->mtu);
		else if (pkt->related || pkt->fragment == LB_FRAGMENT_LATER)
			obstacle = LB_R_TOO_BIG;
		else
			return tc_answer(skb, pkt, obstacle);
	}
	if (obstacle != LB_R_NONE || !node)
		return tc_drop(pkt, obstacle);
	if (tc_untag(skb, pkt))
		return tc_drop(pkt, LB_R_ERROR);
	data = (void *)(long)skb->data;
	data_end = (void *)(long)skb->data_end;
	if (!ttl_decrement(data + sizeof(struct ethhdr), data_end, pkt->family) || tc_add_outer(skb, pkt, node))
		return tc_drop(pkt, LB_R_ERROR);
	return tc_redirect_to_node(skb, pkt, node, reason);
}

static __noinline int tc_steer(struct __sk_buff *skb, struct lb_pkt *pkt, enum lb_reason reason)
{
	struct lb_node *node = node_find(pkt, pkt->outer_family);
	enum lb_reason obstacle = steer_check(node, tc_wire_len(skb, pkt));
	void *data, *data_end;

	if (obstacle != LB_R_NONE || !node)
		return tc_drop(pkt, obstacle);
	if (tc_untag(skb, pkt))
		return tc_drop(pkt, LB_R_ERROR);
	data = (void *)(long)skb->data;
	data_end = (void *)(long)skb->data_end;
	if (!outer_readdress(pkt, node, data + sizeof(struct ethhdr), data_end))
		return tc_drop(pkt, LB_R_ERROR);
	return tc_redirect_to_node(skb, pkt, node, reason);
}

/* Sets the type of service of the IP header, with its checksum. */
static __always_inline long tc_set_tos(struct __sk_buff *skb, const struct lb_pkt *pkt, __u8 tos)
{
	__be16 old, new;

	if (bpf_skb_load_bytes(skb, pkt->l3, &old, sizeof(old)))
		return -1;
	if (pkt->family == 4) {
		new = (old & bpf_htons(0xff00)) | bpf_htons(tos);
		return bpf_l3_csum_replace(skb, pkt->l3 + 10, old, new, sizeof(new)) |
		       bpf_skb_store_bytes(skb, pkt->l3, &new, sizeof(new), 0);
	}
	new = (old & bpf_htons(0xf00f)) | bpf_htons(tos << 4);
	return bpf_skb_store_bytes(skb, pkt->l3, &new, sizeof(new), 0);
}

static __always_inline long tc_strip_outer(struct __sk_buff *skb, struct lb_pkt *pkt)
{
	int overhead = pkt->outer_family == 4 ? LB_ENCAP_V4 : LB_ENCAP_V6;
	__u64 flags = BPF_F_ADJ_ROOM_FIXED_GSO;
	__u8 tos = ecn_decap(pkt->outer_tos, pkt->tos);
	__be16 proto;

	/* A tag that lies in the frame is in the way; one beside it stays. */
	if (pkt->tags_len && tc_untag(skb, pkt))
		return -1;
	if (pkt->family == 4) {
		flags |= LB_ADJ_ROOM_DECAP_L3_IPV4;
		proto = bpf_htons(ETH_P_IP);
	} else {
		flags |= LB_ADJ_ROOM_DECAP_L3_IPV6;
		proto = bpf_htons(ETH_P_IPV6);
	}
	if (bpf_skb_adjust_room(skb, -overhead, BPF_ADJ_ROOM_MAC, flags))
		return -1;
	pkt->l3 -= overhead;
	pkt->l4 -= overhead;
	pkt->quote -= overhead;
	pkt->quote_l4 -= overhead;
	if (tos != pkt->tos && tc_set_tos(skb, pkt, tos))
		return -1;
	return bpf_skb_store_bytes(skb, LB_MACS, &proto, sizeof(proto), 0);
}

/* DNAT, and on to the stack: routing, filters and the CNI see the client's address. */
static __noinline int tc_deliver(struct __sk_buff *skb, struct lb_pkt *pkt, enum lb_reason reason)
{
	struct lb_backend *backend = bpf_map_lookup_elem(&backends, &pkt->backend);
	struct lb_related to = {
		.outside = pkt->family == 4 ? 16 : 24,
		.inside = pkt->family == 4 ? 12 : 8,
	};
	long err;

	if (!backend)
		return tc_drop(pkt, LB_R_ERROR);
	to.to[0] = ((__u64 *)backend->addr)[0];
	to.to[1] = ((__u64 *)backend->addr)[1];
	to.ports[0] = backend->port;
	to.ports[1] = pkt->pod_port;
	if (pkt->tunnelled && tc_strip_outer(skb, pkt))
		return tc_drop(pkt, LB_R_ERROR);
	if (pkt->related)
		err = tc_set_related(skb, pkt, &to);
	else
		err = tc_set_addr(skb, pkt, pkt->dst, to.to, 1) ||
		      tc_set_port(skb, pkt, pkt->dport, backend->port, 1) ||
		      tc_set_port(skb, pkt, pkt->sport, pkt->pod_port, 0);
	if (err)
		return tc_drop(pkt, LB_R_ERROR);
	count(pkt, reason);
	return LB_TCX_NEXT;
}

#endif
